"""A process that opens visits and appends their reads for ever, and says so after each. Run by test_outbox_crash."""

import os
import sys
from pathlib import Path

from edge.outbox import Outbox
from edge.seal import keys
from edge.seal.envelope import Sealer
from edge.seal.keys import Purpose
from edge.seal.signer import FileSigner
from tests.sealing import AUDIT, CHECKPOINT, NOW, read


def main(folder: Path) -> None:
    signer = FileSigner(keys.load_private(folder / "lane", Purpose.SIGNING))
    recipient = keys.load_public(folder / "owner.pub", Purpose.RECIPIENT)
    with Outbox.open(folder / "outbox.sqlite", Sealer("lane-1", signer, (recipient,))) as box:
        said = sys.stdout
        print("interrupted", *(visit.passage_id.hex() for visit in box.interrupted), file=said, flush=True)
        for visit in box.interrupted:
            box.append(read(passage_id=visit.passage_id, restarted=True))
        box.append(AUDIT)
        while True:
            passage_id = os.urandom(16)
            box.open_visit(passage_id, NOW)
            print("opened", passage_id.hex(), file=said, flush=True)
            _, seq = box.append(read(passage_id=passage_id))
            print("read", passage_id.hex(), seq, file=said, flush=True)
            _, seq = box.append(CHECKPOINT)
            print("checkpoint", seq, file=said, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
