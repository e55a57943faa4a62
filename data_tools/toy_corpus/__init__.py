"""The embedded corpus: a synchronous grammar of English, German, French and Russian.

A sampler draws the meaning of a sentence (`meaning.py`, `sampler.py`, `documents.py`); four realisers say it in four
languages, so that the realisations of one meaning are translations of each other. Everything follows from a seed.
"""

from data_tools.toy_corpus.generate import LANGUAGES, generate_documents, generate_pairs, generate_quadruples, realise

__all__ = ["LANGUAGES", "generate_documents", "generate_pairs", "generate_quadruples", "realise"]
