"""What is tested. Each body says which test executes it: `by NAME` is test_NAME, `by none` no test at all."""


def shared(number):
    return number + 1  # by all whose functions call it


def plain():
    return shared(1)  # by plain


def thread_a():
    return shared(2)  # by thread_a


def thread_b():
    return shared(3)  # by thread_b


def pool_first():
    return shared(4)  # by pool_first


def pool_again():
    return shared(5)  # by pool_again


def task_a():
    return shared(6)  # by task_a


def task_b():
    return shared(7)  # by task_b


def process_first():
    return shared(8)  # by process_first


def process_again():
    return shared(9)  # by process_again


def program():
    return shared(10)  # by program


def server_a():
    return shared(11)  # by server_a


def server_b():
    return shared(12)  # by server_b


def late(started, go_on):
    started.set()  # by late
    go_on.wait()  # by late
    return late_end()  # by none


def late_end():
    return shared(13)  # by none


def noise():
    return shared(14)  # by none
