"""Chaos: a bounded storm of processes that collect and are annotated, are killed, stopped, and replaced.

digits.py     the code that is recorded: sixteen small functions in a few modules, whose events are known
plans.py      what a section executes: a tree of sections, from the section's number alone
journal.py    what a process says of itself: records that no SIGKILL can tear
doom.py       death inside pykcov, after so many of its lines
threads.py    threads of a process, whose failures make it fail
worker.py     a process that runs sections in threads and asyncio tasks, and now and then dies in one
collector.py  a process that has sixteen collections, enables and disables their handles, and keeps the traces
storm.py      starts them all, kills, stops, replaces them, and fills the shared-memory file system once
history.py    what happened, from the journals
check.py      holds every trace against that: whole or counted, prefixes of the truth, nobody else's

The expectation never comes from a trace: a section's number gives its plan, the plan its digits, and each
digit the entry and the lines of one function. The journals say when a section began and ended.
"""
