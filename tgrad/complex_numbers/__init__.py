"""Complex numbers as PyTorch has them, each two real ones.

In: real tensors and numbers. Out: ComplexTensor. Invariant: importing this gives it its functions.
"""

import tgrad.complex_numbers.decompositions
import tgrad.complex_numbers.matrices  # noqa: F401
from tgrad.complex_numbers.creation import as_complex as as_complex
from tgrad.complex_numbers.creation import complex as complex
from tgrad.complex_numbers.creation import imag as imag
from tgrad.complex_numbers.creation import polar as polar
from tgrad.complex_numbers.creation import real as real
from tgrad.complex_numbers.creation import view_as_complex as view_as_complex
from tgrad.complex_numbers.creation import view_as_real as view_as_real
from tgrad.complex_numbers.methods import install
from tgrad.complex_numbers.tensor import ComplexTensor as ComplexTensor

install()
