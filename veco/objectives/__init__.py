"""Objectives of pre-training: each file is one, `table.py` names them, and a recipe sums them up."""
