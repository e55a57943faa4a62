"""Objectives of pre-training: each file is one, `table.py` names them, and a recipe sums them up.

`objective.py` says what an objective is, `objective_sum.py` what a sum of them is, `states.py` sends a batch through
the layers for all of them, and `shared/` has what several use.
"""
