"""The kernel's device on a kernel that has it: `make kernel-test` runs these in a guest."""
