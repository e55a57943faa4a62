"""Views of a batch of pairs, which objectives read: each file makes some, `table.py` names them."""
