"""Output whose reader goes away."""

import os

from taxi_assets.core.output import open_output


def test_what_is_written_after_the_reader_has_gone_is_dropped():
    reader, writer = os.pipe()
    with open_output(writer) as output:
        print("one", file=output, flush=True)
        assert os.read(reader, 100) == b"one\n"
        os.close(reader)
        print("two", file=output, flush=True)
        print("three " * 100_000, file=output)
    os.close(writer)
