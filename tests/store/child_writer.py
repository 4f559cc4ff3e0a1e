"""A process that writes records and prints the id of each one once it is acknowledged.

Usage: child_writer.py LOG NAME COUNT [open]; with `open`, the last record is left in progress.
"""

import sys
import time

from pilothouse.store.ledger import Ledger
from pilothouse.store.records import Message, Request


def main(log: str, name: str, count: str, leave: str = "") -> None:
    with Ledger.open(log, code="test", patience=60) as ledger:
        for number in range(int(count)):
            prompt = f"{name} asks {number}"
            record = ledger.begin(Request(messages=(Message(role="user", content=prompt),)))
            if not leave or number < int(count) - 1:
                ledger.finish(record, "completed", answer=f"{name} is told {number}")
            print(record, flush=True)
        if leave:
            time.sleep(600)


main(*sys.argv[1:])
