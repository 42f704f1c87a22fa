"""Chinese words by jieba, one dictionary for whoever needs it.

In: text. Out: words. Invariant: the dictionary is built in memory: jieba's cache is a file in the shared temporary folder that
anyone could have written.
"""

import logging
from functools import lru_cache
from typing import Any


@lru_cache
def jieba_tokenizer() -> Any:
    """Returns jieba, ready; its words joined are the text."""
    import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer
