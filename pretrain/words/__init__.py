"""Words of sentences that are pieces, and which of them are translations or synonyms of each other."""
