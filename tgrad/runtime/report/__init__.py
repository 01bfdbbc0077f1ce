"""What a plan says about itself: figures, text, data and a page.

In: a Plan. Out: `PlanReport` and its spellings. Invariant: nothing here runs a kernel, and nothing
needs a package beside NumPy.
"""

from tgrad.runtime.report.figures import PlanReport, report_plan
from tgrad.runtime.report.page import page_of, table_of
from tgrad.runtime.report.text import data_of, text_of

__all__ = ["PlanReport", "data_of", "page_of", "report_plan", "table_of", "text_of"]
