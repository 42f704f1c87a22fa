"""Keys and tokens: well-known forms, private keys, and values of high entropy that the text itself calls secret.

In: a match of `SECRETS`. Out: whether it is a secret. Invariant: entropy alone masks nothing: digests, ids and base64 have
it too; so a value counts only behind a name like `api_key=`, `token:` or `Bearer`.
"""

import math
import re
from collections import Counter

# Bits a character; 24 characters drawn from 64 have 4.2 on average, words with digits and lines of one case lie below 3.5.
_MIN_ENTROPY = 3.5

_WEB_TOKEN = r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"  # JSON web token
_FORMS = (
    r"(?:AKIA|ASIA)[0-9A-Z]{16}",  # Amazon
    r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{50,255}",
    r"glpat-[\w-]{20,}",
    r"xox[abeprs]-[A-Za-z0-9-]{10,}",  # Slack
    r"AIza[\w-]{35}",  # Google
    r"(?:sk|rk)_live_[A-Za-z0-9]{16,}",  # Stripe
    r"sk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}",  # OpenAI, Anthropic and others of this form
    r"hf_[A-Za-z0-9]{30,}",
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-AgEI[\w-]{40,}",
    _WEB_TOKEN,
)
_FORM = re.compile("|".join(_FORMS), re.ASCII)
_NAMED = (
    r"(?P<before>(?:(?i:api[_-]?key|secret(?:[_-]?(?:access[_-]?)?key)?|access[_-]?token|auth[_-]?token|token|passw(?:or)?d)[\"']?\s{0,2}[=:]\s{0,2}[\"']?"
    rf"|Bearer ))(?P<value>{_WEB_TOKEN}|[A-Za-z0-9+/_-]{{20,4000}}={{0,2}})"
)
# JSON writes its line ends as backslash and n.
_PRIVATE_KEY = r"-----BEGIN (?P<owner>[A-Z ]{0,20})PRIVATE KEY-----[A-Za-z0-9+/=\s\\]{1,10000}-----END (?P=owner)PRIVATE KEY-----"
SECRETS = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(_FORMS)})(?![A-Za-z0-9])|(?<![A-Za-z0-9]){_NAMED}|{_PRIVATE_KEY}", re.ASCII)


def is_secret(found: re.Match[str]) -> bool:
    """Says whether a value behind a name looks drawn by chance; a form known by itself is a secret, named or not."""
    value = found["value"]
    if value is None or _FORM.fullmatch(value):
        return not _is_placeholder(value or found.group())
    kinds = sum(any(map(test, value)) for test in (str.isdigit, str.isupper, str.islower))
    return kinds >= 2 and any(map(str.isdigit, value)) and _entropy(value) >= _MIN_ENTROPY


def _is_placeholder(text: str) -> bool:
    """A manual's `AKIAIOSFODNN7EXAMPLE` and `sk-xxxxxxxxxxxxxxxxxxxx` open nothing."""
    return "EXAMPLE" in text or bool(re.search(r"([xX*.0])\1{7}", text))


def _entropy(text: str) -> float:
    """Returns bits a character, by the frequencies of the text's own characters (Shannon 1948)."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())
