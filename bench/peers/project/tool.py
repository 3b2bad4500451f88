"""A program of its own."""

import jobs

print(jobs.program())
