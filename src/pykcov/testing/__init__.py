"""What ``pytest --pykcov`` does. The plugin that pytest loads, ``pytest_pykcov``, imports this when it is asked to.

plugin      pytest's hooks                          recording   who executes now: a test, a fixture, an import
collection  sets of lines, on devices               imports     an import is found while it happens
store       what is kept for the next run           results     what a run has found: .coverage, JSON
changes     what CHANGED says, as lines             touched     what of an older version that touches
statements  of one version of a file, by line       impact      which tests have to run, and why
options     what was asked for, checked             traces      one of each test, in a file of its name
"""
