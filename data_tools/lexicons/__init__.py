"""Reading word lists of others: bilingual lexicons and thesauri."""
