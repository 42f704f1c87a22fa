"""Share lines: takes out lines that ask the reader to like, share, follow or subscribe; drops pages of little else.

In: one text. Out: the text without such lines, or the reason. Invariant: a sentence that uses one such word as prose does
("人们关注天气") stays: a line goes for two different requests, or for one that names the account or the button. Lines of
code stay.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tasks.cleaning.base import Example, FilterBase, Judge, Language
from tasks.cleaning.prose import code_lines

_CUES: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        "(点赞|点个赞)|(关注)|(转发)|(收藏)|(在看)|(分享)|(扫码|扫一扫|二维码)|"
        "(公众号|微信号|视频号|抖音号|微博)|(投币|三连)|(订阅)|(评论区|留言)"
    ),
    "en": re.compile(
        r"\b(?:(likes?)|(shares?|sharing)|(follow(?:ers?)?)|(subscribe|newsletter)|(retweet|tweet|pin it)|(facebook|"
        r"instagram|twitter|linkedin|pinterest|youtube|tiktok)|(comment below|leave a comment))\b",
        re.IGNORECASE,
    ),
}
_STRONG: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        "(?:长按|识别|扫描).{0,8}二维码|(?:关注|搜索|添加).{0,6}(?:公众号|微信号|视频号)|一键三连|点击.{0,6}(?:关注|订阅)|"
        "(?:喜欢|觉得).{0,12}(?:点赞|转发|在看)|(?:微信)?公众号\\s*[：:]"
    ),
    "en": re.compile(
        r"follow (?:us|me) (?:on|@)|like us on|share (?:this|on) (?:post|article|story|page|facebook|twitter|x\b)|"
        r"(?:subscribe|sign up) (?:to|for) (?:our|my|the) (?:\w+ )?newsletter|click here to (?:share|subscribe|tweet)",
        re.IGNORECASE,
    ),
}


class ShareLines(FilterBase):
    """Requests to like, share, follow and subscribe (点赞、关注、转发、公众号)."""

    kind: Literal["share_lines"]
    max_line_chars: Annotated[
        int,
        Field(ge=1, description="Longest line that is taken out. 80: requests are short; a longer line is a paragraph."),
    ] = 80
    max_share: Annotated[
        float,
        Field(gt=0, le=1, description="Largest share of lines that may be such. 0.5: beyond it the page is an advertisement."),
    ] = 0.5

    EXAMPLES: ClassVar[tuple[Example, ...]] = (
        Example("今天讲排序算法。\n先看冒泡排序。\n觉得有用请点赞、关注并转发！", "zh", None, "今天讲排序算法。\n先看冒泡排序。"),
        Example("正文在此。\n还有一段。\n微信公众号：代码日记", "zh", None, "正文在此。\n还有一段。"),
        Example("人们关注天气。\n他把这篇文章收藏在书里。", "zh", None),
        Example("长按识别二维码\n关注公众号\n点赞转发", "zh", "mostly_share_lines"),
        Example(
            "A recipe for soup.\nCut the onions.\nFollow us on Instagram!", "en", None, "A recipe for soup.\nCut the onions."
        ),
        Example("今天讲消息。\n代码如下。\n```\n公众号: 关注\n```", "zh", None),
        Example("Shares of the firm fell.\nI follow the rules.", "en", None),
        Example("Like us on Facebook\nSubscribe to our newsletter\nEnd", "en", "mostly_share_lines"),
    )

    def build(self) -> Judge:
        """Returns the judge of both languages."""

        def is_request(line: str, lang: Language) -> bool:
            if not 0 < len(line) <= self.max_line_chars:
                return False
            return bool(_STRONG[lang].search(line)) or len({found.lastindex for found in _CUES[lang].finditer(line)}) > 1 + (
                lang == "en"
            )

        def judge(text: str, lang: Language) -> tuple[str, str | None]:
            lines, code = text.split("\n"), code_lines(text)
            kept = [line for number, line in enumerate(lines) if number in code or not is_request(line.strip(), lang)]
            asked, filled = len(lines) - len(kept), sum(bool(line.strip()) for line in lines)
            if asked > self.max_share * filled:
                return text, "mostly_share_lines"
            return "\n".join(kept), None

        return judge
