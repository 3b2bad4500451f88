"""Programs that must run under `pykcov run` as they do under `python`."""

PROGRAMS = {
    "its own view of itself": """
        import json, sys
        print(sys.argv, sys.path[0], __name__, __file__)
        print([(k, v if k in ("__doc__", "__package__", "__cached__") else type(v).__name__)
               for k, v in list(globals().items())])
        print(__loader__.name, __loader__.path, __loader__.get_source("__main__")[:8])
        print(sys.modules["__main__"].__dict__ is globals(), __builtins__.__name__)
    """,
    "its __main__ is importable": """
        import pickle, __main__
        class Thing: pass
        print(type(pickle.loads(pickle.dumps(Thing()))) is Thing, __main__.Thing is Thing)
    """,
    "if __name__": """
        def main(): print("main")
        if __name__ == "__main__": main()
    """,
    "exit None": "import sys; sys.exit()",
    "exit 0": "import sys; sys.exit(0)",
    "exit 3": "import sys; sys.exit(3)",
    "exit -1": "import sys; sys.exit(-1)",
    "exit 256": "import sys; sys.exit(256)",
    "exit True": "import sys; sys.exit(True)",
    "exit text": "import sys; sys.exit('no such thing: é')",
    "exit tuple": "import sys; sys.exit((1, 'two'))",
    "exit object": """
        import sys
        class Reason:
            def __str__(self): return "because"
        sys.exit(Reason())
    """,
    "exit without stderr": "import sys; sys.stderr = None; sys.exit('nowhere')",
    "os._exit": "import os; os._exit(5)",
    "exception": """
        def f(): g()
        def g(): raise ValueError("bad")
        f()
    """,
    "chained exceptions": """
        try:
            try: 1 / 0
            except ZeroDivisionError: [][0]
        except IndexError as e:
            raise RuntimeError("third") from e
    """,
    "exception group": "raise ExceptionGroup('two', [ValueError(1), TypeError(2)])",
    "exception with notes": "e = ValueError(1); e.add_note('a note'); raise e",
    "exception that is not an Exception": "class Odd(BaseException): pass\nraise Odd('x')",
    "exception without text": """
        class Bad(Exception):
            def __str__(self): raise ValueError
        raise Bad
    """,
    "GeneratorExit": "raise GeneratorExit",
    "KeyboardInterrupt": "raise KeyboardInterrupt('stop')",
    "SIGINT": """
        import atexit, os, signal, time
        atexit.register(print, "atexit")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    """,
    "SIGINT handled": """
        import os, signal
        signal.signal(signal.SIGINT, lambda *_: print("handled"))
        os.kill(os.getpid(), signal.SIGINT)
    """,
    "SIGTERM": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "syntax error": "x = 1\ndef f(:\n    pass\n",
    "indentation error": "if 1:\nx = 1\n",
    "syntax error found by the compiler": "x = 1\nreturn 3\n",
    "syntax error in an import": """
        import pathlib, sys
        pathlib.Path("broken.py").write_text("def f(:")
        import broken
    """,
    "unknown name": "x = 1\nprint(undefined)\n",
    "import error": "import no_such_module_at_all",
    "empty": "",
    "comment only": "# nothing",
    "no newline at the end": "print('x')\nprint('y')",
    "excepthook": """
        import sys
        def hook(kind, error, trace):
            print("hook", kind.__name__, error, trace.tb_lineno, trace.tb_next, sys.exc_info())
        sys.excepthook = hook
        1 / 0
    """,
    "excepthook that fails": """
        import sys
        def hook(kind, error, trace): raise ValueError("in hook")
        sys.excepthook = hook
        1 / 0
    """,
    "excepthook that exits": """
        import sys
        sys.excepthook = lambda *_: sys.exit(7)
        1 / 0
    """,
    "excepthook that is gone": "import sys; del sys.excepthook; 1 / 0",
    "last exception": """
        import atexit, sys
        atexit.register(lambda: print(repr(sys.last_value), sys.last_traceback.tb_frame.f_code))
        1 / 0
    """,
    "exception in a thread": """
        import threading
        def work(): raise ValueError("in thread")
        t = threading.Thread(target=work, name="worker"); t.start(); t.join()
        print("main goes on")
    """,
    "a thread outlives main": """
        import atexit, threading, time
        def work():
            time.sleep(0.2); print("thread", threading.main_thread().is_alive(), flush=True)
        atexit.register(lambda: print("atexit", flush=True))
        threading.Thread(target=work).start()
        print("main ends", flush=True)
        raise ValueError("main fails")
    """,
    "a daemon thread does not": """
        import threading, time
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    """,
    "a pool is joined at exit": """
        import concurrent.futures, time
        pool = concurrent.futures.ThreadPoolExecutor(2)
        for i in range(2): pool.submit(lambda i=i: (time.sleep(0.1 * i), print(i, flush=True)))
    """,
    "atexit handlers": """
        import atexit
        atexit.register(print, "first registered")
        atexit.register(lambda: 1 / 0)
        atexit.register(print, "last registered")
    """,
    "__del__ at the end": """
        class Thing:
            def __del__(self): print("gone", __name__)
        thing = Thing()
    """,
    "unraisable": """
        class Thing:
            def __del__(self): raise ValueError("in del")
        Thing(); print("goes on")
    """,
    "standard input": "import sys; print(input(), sys.stdin.read().upper())",
    "end of input": "input(); input(); input()",
    "closed stdout": "import sys; print('x'); sys.stdout.close()",
    "broken pipe": """
        import os, sys
        r, w = os.pipe(); os.close(r); os.dup2(w, 1)
        print("x")
    """,
    "another directory": "import os; os.mkdir('d'); os.chdir('d'); print(os.getcwd())",
    "a deprecated call": "import warnings; warnings.warn('old', DeprecationWarning)",
    "asyncio": """
        import asyncio
        async def main():
            await asyncio.sleep(0); print("async")
            raise ValueError("in task")
        asyncio.run(main())
    """,
    "fork": """
        import os, sys
        pid = os.fork()
        if pid == 0:
            print("child", flush=True); sys.exit(3)
        print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    """,
    "fork that fails": """
        import os, sys
        pid = os.fork()
        if pid == 0: raise ValueError("in child")
        print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    """,
    "multiprocessing spawn": """
        import multiprocessing
        def square(x): return x * x
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, [1, 2, 3]))
    """,
    "multiprocessing fork": """
        import multiprocessing
        def square(x): return x * x
        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(1) as pool:
                print(pool.map(square, [1, 2, 3]))
    """,
    "dataclass, namedtuple, enum": """
        import collections, dataclasses, enum
        @dataclasses.dataclass
        class D: x: int = 1
        print(D(), collections.namedtuple("N", "a")(1).__class__.__module__)
        print(enum.Enum("E", "A").__module__)
    """,
    "unittest": """
        import sys, unittest
        class Case(unittest.TestCase):
            def test(self): self.assertEqual(1, 1)
        print(unittest.main(exit=False, verbosity=0, testRunner=unittest.TextTestRunner(
            stream=open("log", "w"))).result.testsRun)
    """,
}

VIEW = """
    import os, sys
    print(sys.argv, sys.path[0], __name__, __file__, __package__, __cached__, list(globals()))
    print(__spec__ and (__spec__.name, __spec__.origin, __spec__.parent))
    if len(sys.argv) > 1: raise ValueError("with a traceback")
"""
