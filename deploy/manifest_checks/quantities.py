"""Quantities of Kubernetes, such as 250m, 64Mi or 2."""

from fractions import Fraction

SUFFIXES = {"m": Fraction(1, 1000), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
            "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}


def quantity(text: str | int) -> Fraction:
    """The value in whole units: cores or bytes."""
    number = str(text).rstrip("mkKMGTPEi")
    suffix = str(text)[len(number):]
    return Fraction(number) * (SUFFIXES[suffix] if suffix else 1)
