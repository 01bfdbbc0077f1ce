"""Each launch of a program checked against the CPU: which kernel is wrong, and where.

In: launches, through the hook of runtime/execute.py. Out: a `Checked` a launch. Invariant: a launch
is judged by what it made of the inputs that it got, so what is wrong before it does not count.

>>> import tgrad
>>> with checking() as checker:
...     y = (tgrad.ones(4, 4) @ tgrad.ones(4, 4)).sum().item()
>>> [launch.is_right for launch in checker.launches]
[True, True]
"""

from tgrad.checking.checker import Checked, Checker, checking
from tgrad.checking.compare import Difference
from tgrad.checking.text import data_of, text_of

__all__ = ["Checked", "Checker", "Difference", "checking", "data_of", "text_of"]
