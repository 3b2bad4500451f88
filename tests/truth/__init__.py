"""Truth: random programs, made together with the exact trace that each collection in them must give.

writer.py      writes a random program (source text) from a seed
scenario.py    writes the concurrent part: who collects, who is annotated, who hands work to whom
interpreter.py executes that text statement by statement and says which lines and entries happen
machine.py     the tasks that execute it, a scheduler for them, and who is collecting what
world.py       what the text finds under `pykcov`, `threading`, `asyncio` and so on while it is interpreted
rules.py       the few ways in which the interpreters' own line events differ
oracle.py      the same text under `sys.settrace` or `sys.monitoring`: does the interpreter agree with CPython
check.py       the same text under pykcov: does pykcov agree with the interpreter

The expectation never comes from a run under CPython: interpreter.py is a second implementation of the
small language that the writer uses, and every decision in a program is arithmetic that it does itself.
"""
