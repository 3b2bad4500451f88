"""The one part of the build that pyproject.toml cannot say yet: the recorder, a C extension."""

import os
from glob import glob

from setuptools import Extension, setup

FLAGS = ["-O3", "-std=c11", "-Wall", "-Wextra", "-fvisibility=hidden"]
if os.environ.get("PYKCOV_WERROR"):  # the Makefile sets it: pip shows no warnings, only failures
    FLAGS.append("-Werror")

setup(
    ext_modules=[
        Extension(
            "pykcov._recorder",
            sources=["src/pykcov/_recorder.c"],
            depends=glob("src/pykcov/*.h"),
            extra_compile_args=FLAGS,
        )
    ]
)
