"""The first cause of a group of failures."""


def first_cause(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure that came first: a task group cancels the other tasks because of it."""
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
