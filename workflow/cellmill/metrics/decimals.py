"""Scores as text: rounded to decimals or to digits, and never with the sign of a zero.

A rounded number has a sign only if a digit other than 0 is shown: a difference of -0.0004 is 0.000, neither -0.000 nor
+0.000.
"""

MINUS = "\N{MINUS SIGN}"


def round_decimals(value: float, decimals: int, *, is_signed: bool = False, unit: str = "") -> str:
    """Write a finite number with fixed decimals, for tables and sentences.

    Parameters
    ----------
    value : float
        Finite.
    decimals : int, >= 0
        Digits after the point.
    is_signed : bool
        Whether to write the plus sign of a positive number, as for differences.
    unit : str
        "" or "%"; with "%", the value is multiplied by 100.

    Returns
    -------
    str
        With thousands separators, the typographic minus, and no sign if all digits are 0.
    """
    text = f"{100 * value if unit == '%' else value:,.{decimals}f}"
    digits = text.lstrip("-")
    if digits.strip("0.,") == "":
        sign = ""
    elif text.startswith("-"):
        sign = MINUS
    else:
        sign = "+" if is_signed else ""
    return f"{sign}{digits}\N{NO-BREAK SPACE}%" if unit == "%" else f"{sign}{digits}"


def round_digits(value: float, digits: int, *, separator: str = "") -> str:
    """Write a number with a number of significant digits, for CSV files; the minus is that of a computer.

    Parameters
    ----------
    value : float
    digits : int, > 0
        Significant digits.
    separator : "" or ","
        Thousands separator.

    Returns
    -------
    str
        "0" for both zeros of floating-point arithmetic.
    """
    return f"{value + 0.0:{separator}.{digits}g}"
