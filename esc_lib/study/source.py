"""Code on a page: the source that runs, beside its equation."""

import ast
import inspect
import textwrap
from collections.abc import Callable

from IPython.display import Markdown


def source(*functions: Callable) -> Markdown:
    """Show functions, methods or classes as they run, without their docstrings."""
    return Markdown("\n".join(f"```python\n{_without_words(each)}\n```" for each in functions))


def _without_words(function: Callable) -> str:
    text = textwrap.dedent(inspect.getsource(function))
    lines = text.rstrip().splitlines()
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    documented = [n.body[0] for n in nodes if ast.get_docstring(n, clean=False) is not None]
    for words in sorted(documented, key=lambda node: -node.lineno):
        del lines[words.lineno - 1 : words.end_lineno]
    return "\n".join(lines)
