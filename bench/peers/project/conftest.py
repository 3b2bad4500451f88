import subprocess
import sys
from pathlib import Path

import pytest
import workers

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def threads():
    return workers.Threads()


@pytest.fixture(scope="session")
def loop():
    return workers.Loop()


@pytest.fixture(scope="session")
def processes():
    pool = workers.Processes()
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def server():
    command = [sys.executable, str(HERE / "workers.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield int(process.stdout.readline())
        process.terminate()


@pytest.fixture(scope="session", autouse=True)
def noise():
    noise = workers.Noise()
    yield
    noise.close()
