"""The embedded corpus: a synchronous grammar of English, German, French and Russian.

Samplers draw the meaning of a sentence (`meaning.py`; `phrases.py`, `clauses.py`, `sentences.py`); four realisers
express it in four languages (`english.py`, …), so that the realisations of one meaning are translations of each other.
Everything is determined by a seed.
"""

from data_tools.toy_corpus.generate import LANGUAGES, generate_documents, generate_pairs, generate_quadruples, realise

__all__ = ["LANGUAGES", "generate_documents", "generate_pairs", "generate_quadruples", "realise"]
