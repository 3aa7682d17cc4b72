"""A coverage-guided fuzz target (libFuzzer through Atheris): whatever the bytes, looking at them ends in an outline or
in a Refusal, and soon.

    python -m tests.fuzz.walker [options of libFuzzer] FOLDER…

The walker is instrumented, so that inputs that reach new lines are kept and changed further.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["certificates"]):
    from certificates import der, intake
    from certificates.der import Budget, parse
    from certificates.diagnosis import Refusal
    from certificates.intake import Upload


def test_one_input(data: bytes) -> None:
    try:
        intake.screen([Upload("fuzz", data)])
    except Refusal as refusal:
        sentence = str(refusal)
        assert sentence.endswith("."), sentence
        assert len(sentence) < 2000, len(sentence)
    try:
        node = parse(data, Budget(), outermost=True)
    except Refusal:
        return
    # What was read in BER reads the same in DER.
    again = parse(der.encode(node), Budget())
    assert der.encode(again) == der.encode(node)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
