"""Truth: random programs, made together with the exact trace that each collection in them must give.

phrases.py     the pieces of text that every program begins with, and random expressions
writer.py      writes random functions
scenario.py    writes the actors: who collects, who is annotated, who hands work to whom
conductor.py   writes main(), which owns the remote devices and waits for everything
processes.py   writes actors that have work done in other processes, some of which die
programs.py    puts these together: a program from a seed, and what it must do
interpreter.py (expressions.py, frames.py, patterns.py, values.py) executes that text and says which lines and entries happen
machine.py     the tasks that execute it, and a scheduler for them; collecting.py: who collects what
world.py       what the text finds under `threading`, `asyncio` and so on while it is interpreted; pretend.py: under `pykcov`;
               kindred.py: other processes
rules.py       the few ways in which the interpreters' own line events differ
oracle.py      the same text under `sys.settrace` or `sys.monitoring`: does the interpreter agree with CPython
check.py       the same text under pykcov: does pykcov agree with the interpreter; stage.py is what both runs share,
               family.py the other processes
shrink.py      the smallest program that still fails

The expectation never comes from a run under CPython: interpreter.py is a second implementation of the
small language that the writer uses, and every decision in a program is arithmetic that it does itself.
"""
