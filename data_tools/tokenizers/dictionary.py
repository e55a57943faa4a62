"""dict.txt, the vocabulary file of fairseq, read by the rules of fairseq's `Dictionary.add_from_file`.

    ▁the 1200345
    ▁die 900210
    ▁the 7 #fairseq:overwrite

A line is a piece and its count; the first has the id FIRST_PIECE_ID, and each line takes the next id. A piece may only
be repeated with the flag. Then its later id counts: no text becomes the earlier one, which keeps its row of the
embeddings all the same.
"""

from pathlib import Path

from data_tools.text.lines import open_text
from data_tools.tokenizers.sentence_piece import BOS_ID, EOS_ID, FIRST_PIECE_ID, PAD_ID, UNK_ID

SPECIAL_IDS = {"<s>": BOS_ID, "<pad>": PAD_ID, "</s>": EOS_ID, "<unk>": UNK_ID}  # those that fairseq adds itself
MASK = "<mask>"
OVERWRITE_FLAG = "#fairseq:overwrite"


def read_dictionary(path: Path) -> list[str]:
    """Read the pieces of a dict.txt in the order of their ids, from FIRST_PIECE_ID; `<mask>` is the last, if there.

    A piece that a later line overwrites is replaced by a made-up name, `overwritten` and its id. Raises
    ValueError naming the line for whatever fairseq refuses, and for special tokens, which have ids of their own.
    """
    pieces: list[str] = []
    index: dict[str, int] = {}
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{path}: line {number}"
            piece, overwrites = _parse(line, where)
            if piece in SPECIAL_IDS:
                raise ValueError(
                    f"{where}: expected no special token, found {piece}, which is id {SPECIAL_IDS[piece]} in XLM-R's "
                    "layout; other layouts, such as CamemBERT's, cannot be imported"
                )
            if piece in index:
                if not overwrites:
                    raise ValueError(f"{where}: {piece!r} comes a second time, without {OVERWRITE_FLAG}")
                pieces[index[piece]] = f"overwritten{FIRST_PIECE_ID + index[piece]:04}"
            index[piece] = len(pieces)
            pieces.append(piece)
    if MASK in pieces[:-1]:
        raise ValueError(f"{path}: line {pieces.index(MASK) + 1}: expected {MASK} in the last line or nowhere")
    return pieces


def _parse(line: str, where: str) -> tuple[str, bool]:
    """Split a line into its piece and whether it overwrites an earlier line."""
    piece, _, count = line.rstrip().rpartition(" ")
    overwrites = count == OVERWRITE_FLAG
    if overwrites:
        piece, _, count = piece.rpartition(" ")
    if not piece or not count.isdecimal():
        raise ValueError(f"{where}: expected `piece count`, found {line!r}")
    return piece, overwrites
