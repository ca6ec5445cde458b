from collections.abc import Callable

def is_valid(document: object) -> bool: ...

parts: dict[str, Callable[[object], bool]]
