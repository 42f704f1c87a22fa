"""Formats: what becomes a document and what is quarantined, each on a file written by hand."""

import bz2
import gzip
import io
import json
import os
import zipfile
from base64 import b64encode
from typing import get_args

import pytest
from pydantic import ValidationError

from tasks.core.errors import ContractError
from tasks.core.tables import read_rows
from tasks.ingest.breaks import restore_breaks
from tasks.ingest.formats import FORMATS
from tasks.ingest.formats.mail import unquoted
from tasks.ingest.formats.man import page_text
from tasks.ingest.formats.mediawiki import stripped
from tasks.ingest.formats.text import passages
from tasks.ingest.sources import Format
from tests.data.kit import documents, read, source, write_jsonl

KEEP, DROP = {"quoting": "keep"}, {"quoting": "drop"}


def put(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def texts(corpus):
    return [row["text"] for row in documents(corpus)]


def quarantine(corpus):
    return [(row["record"], row["reason"]) for row in read_rows(corpus.path / "quarantine.parquet")]


# csv, tsv


@pytest.mark.parametrize(("name", "comma"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv.gz", ",")])
def test_a_row_is_a_document_and_a_bad_one_is_not(site, tmp_path, name, comma):
    lines = ["\ufeffid,text,lang", 'x,"one, ""two""\nthree",zh', "", "y,short", "z,,en", "x,again,en", "w,last,en"]
    data = "\n".join(line.replace(",", comma) for line in lines).encode()
    corpus = read(site, put(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data))
    found = [(row["id"], row["lang"], row["text"]) for row in documents(corpus)]
    assert found == [("test/x", "zh", f'one{comma} "two"\nthree'), ("test/w", "en", "last")]
    assert quarantine(corpus) == [(2, "broken_csv"), (3, "empty_text"), (4, "duplicate_id")]
    assert corpus.num_records == 5


def test_a_quote_that_is_never_closed_costs_no_more_than_the_bound(site, tmp_path):
    data = b'text\ngood\n"open\n' + b"swallowed\n" * 30 + b"\xff\xfe\nend\n"
    corpus = read(site, put(tmp_path / "a.csv", data), max_document_bytes=100)
    assert texts(corpus)[0] == "good"
    assert texts(corpus)[-1] == "end"
    assert quarantine(corpus)[0] == (2, "too_large")
    assert quarantine(corpus)[-1][1] == "undecodable"


def test_a_table_without_the_column_names_those_it_has(site, tmp_path):
    put(tmp_path / "a.csv", "body,id\nx,1\n")
    with pytest.raises(ContractError, match="1 no_text"):
        read(site, tmp_path / "a.csv")
    assert texts(read(site, tmp_path / "a.csv", text_column="body")) == ["x"]


# epub

OPF = """<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:language>zh-CN</dc:language></metadata><manifest><item id="b" href="two%20b.xhtml"/><item id="a" href="one.xhtml"/>
<item id="gone" href="gone.xhtml"/><item id="big" href="big.xhtml"/></manifest>
<spine><itemref idref="a"/><itemref idref="b"/><itemref idref="gone"/><itemref idref="big"/></spine></package>"""


def epub(parts):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, data in parts.items():
            book.writestr(name, data)
    return buffer.getvalue()


def book(**more):
    container = '<container><rootfiles><rootfile full-path="OEBPS/p.opf"/></rootfiles></container>'
    return {"META-INF/container.xml": container, "OEBPS/p.opf": OPF, "OEBPS/one.xhtml": "<p>一</p>"} | more


@pytest.mark.parametrize("name", ["a.epub", "noname"])
def test_a_chapter_is_a_document_in_the_order_of_the_spine(site, tmp_path, name):
    parts = book(**{"OEBPS/two b.xhtml": "<p>二</p>", "OEBPS/big.xhtml": "x" * 5_000})
    corpus = read(site, put(tmp_path / name, epub(parts)), max_document_bytes=2_000)
    found = [(row["id"], row["format"], row["lang"], row["text"]) for row in documents(corpus)]
    assert found == [
        (f"test/{name}#OEBPS/one.xhtml", "html", "zh", "<p>一</p>"),
        (f"test/{name}#OEBPS/two b.xhtml", "html", "zh", "<p>二</p>"),
    ]
    assert quarantine(corpus) == [(3, "broken_epub"), (4, "too_large")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (epub({"x": "y"}), "broken_epub"),
        (epub(book(**{"OEBPS/p.opf": "<package/>"})), "broken_epub"),
        (epub(book(**{"OEBPS/p.opf": "<broken"})), "broken_epub"),
        (epub(book())[:-30], "unreadable"),
        (epub(book(é="x")).replace("é".encode(), b"\xff\xfe"), "unreadable"),  # flagged as UTF-8
        (epub(book()).replace(b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\xc8"), "unreadable"),  # of a later version
        (b"PK not a zip", "unreadable"),
    ],
)
def test_a_broken_book_is_set_aside(site, tmp_path, data, reason):
    corpus = read(site, put(tmp_path / "a.epub", data), put(tmp_path / "b.txt", "fine"))
    assert (quarantine(corpus), texts(corpus)) == ([(1, reason)], ["fine"])


def test_an_encrypted_chapter_is_no_text(site, tmp_path):
    data = epub(book(**{"META-INF/encryption.xml": "<x/>", "OEBPS/two b.xhtml": b"\x8f\x02\x99", "OEBPS/big.xhtml": "<p>x</p>"}))
    corpus = read(site, put(tmp_path / "a.epub", data))
    assert quarantine(corpus) == [(2, "encrypted"), (3, "broken_epub")]


# warc


def capture(kind, body, http="HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", name="u"):
    block = (http + "\r\n").encode() + body if http else body
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{name}>\r\nWARC-Target-URI: http://x.test/\r\n"
    inner = "application/http" if http else "text/plain"
    return f"{head}Content-Type: {inner}\r\nContent-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n"


PLAIN = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
PAGES = [
    capture("warcinfo", b"software: x\r\n", http="", name="i"),
    capture("request", b"", http="GET / HTTP/1.1\r\nHost: x.test\r\n", name="q"),
    capture("response", "<p>中文</p>".encode("gb18030"), "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=gb2312\r\n", "a"),
    capture("response", b"", "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n", "b"),
    capture("response", b"\x89PNG", "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n", "c"),
    capture(
        "response", gzip.compress(b"x" * 9_000), "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n", "d"
    ),
    capture("conversion", b"extracted", http="", name="e"),
]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "noname"])
def test_a_capture_is_a_document(site, tmp_path, name):
    data = b"".join(map(gzip.compress, PAGES)) if name.endswith("gz") else b"".join(PAGES)
    corpus = read(site, put(tmp_path / name, data), max_document_bytes=5_000)
    found = [(row["id"], row["format"], row["text"]) for row in documents(corpus)]
    assert found == [("test/urn:uuid:a", "html", "<p>中文</p>"), ("test/urn:uuid:e", "plain", "extracted")]
    assert quarantine(corpus) == [(2, "http_status"), (3, "not_text"), (4, "too_large")]


def test_captures_before_the_damage_are_kept(site, tmp_path):
    large = [capture("response", os.urandom(700_000).hex().encode(), PLAIN, f"{number}") for number in range(3)]
    data = b"".join(gzip.compress(entry, 1) for entry in large)
    corpus = read(site, put(tmp_path / "a.warc.gz", data[:-40]))
    assert [row["id"] for row in documents(corpus, ["id"])] == ["test/urn:uuid:0", "test/urn:uuid:1"]
    assert quarantine(corpus) == [(3, "unreadable")]


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ('<meta http-equiv="Content-Type" content="text/html; charset=gb2312">', "gb18030"),
        ("<meta charset='Big5'>", "big5"),
        ('<?xml version="1.0" encoding="Shift_JIS"?>', "cp932"),
        ("<meta charset=utf-16>", "utf-8"),
        ("<meta charset=big5>", "utf-8"),
        ("<meta charset=iso-8859-1>", "gb18030"),
        ("<meta charset=windows-1252>", "gb18030"),
    ],
)
def test_a_page_is_decoded_by_the_charset_it_declares(site, tmp_path, head, encoding):
    page = f"{head}<p>{'中文的文化和生活，有人在大地上' * 99}</p>"
    data = page.encode(encoding)
    put(tmp_path / "a.html", data)
    put(tmp_path / "b.epub", epub(book(**{"OEBPS/one.xhtml": data})))
    put(tmp_path / "c.warc", capture("response", data))
    assert texts(read(site, tmp_path / "*")) == [page] * 3


# mediawiki

ARTICLE = """{{Infobox|x=[[y]]}} '''Bold''' ''text'' with a [[link|shown link]],
[[plain]]<ref>a source</ref> &amp;amp; [http://a.test site].
[[File:a.png|thumb|caption of [[x]]]]
== Head ==
* item
{|
! table
|}
[[Category:Things]]"""


def dump(*pages):
    return '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">' + "".join(pages) + "</mediawiki>"


def page(title, text, ns=0, number=1, more=""):
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    revision = f"<revision><id>99</id><text>{text}</text></revision>"
    return f"<page><title>{title}</title><ns>{ns}</ns><id>{number}</id>{more}{revision}</page>"


@pytest.mark.parametrize("name", ["a.xml", "a.xml.bz2"])
def test_an_article_is_a_document(site, tmp_path, name):
    data = dump(
        page("One", ARTICLE, number=7),
        page("Old", "#REDIRECT [[One]]", number=8, more='<redirect title="One"/>'),
        page("Talk:One", "chat", ns=1, number=9),
        page("Big", "x" * 3_000, number=10),
        page("Bad", "<ref>" * 200, number=11),
        page("Two", "short", number=12),
    ).encode()
    corpus = read(site, put(tmp_path / name, bz2.compress(data) if name.endswith("bz2") else data), max_document_bytes=2_000)
    first, second = documents(corpus)
    assert first["id"] == f"test/{name}#7"
    assert first["text"] == "# One\n\nBold text with a shown link,\nplain & site.\n\n## Head\n- item"
    assert second["text"] == "# Two\n\nshort"
    assert quarantine(corpus) == [(2, "redirect"), (3, "other_namespace"), (4, "too_large"), (5, "broken_wikitext")]


def test_pages_before_the_damage_are_kept(site, tmp_path):
    data = dump(page("One", "text"), page("Two", "text", number=2))
    corpus = read(site, put(tmp_path / "a.xml", data[:-90]))
    assert (texts(corpus), quarantine(corpus)) == (["# One\n\ntext"], [(2, "broken_xml")])


def test_wikitext_of_a_row(site, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "'''a''' {{b}}[[c|d]]", "format": "wikitext"}])
    assert texts(read(site, tmp_path / "a.jsonl")) == ["a d"]
    assert stripped("[http://bare.test] http://seen.test") == "http://seen.test"


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("-{zh-hans:计算机;zh-hant:電腦}-科学", "计算机科学"),
        ("-{zh-tw:電腦; zh-cn:计算机}- -{zh-hk:電腦}-", "计算机 電腦"),
        ("-{A|zh-cn:甲;zh-tw:乙;}--{文}--{H|zh-cn:丙;zh-tw:丁}--{T|题}-", "甲文"),
        ("[[x|-{zh-hans:a;zh-hant:b}-]]", "a"),
        ("-{zh-hans:[[甲|乙]]&amp;丙;zh-hant:[[丁]]}-文", "乙&丙文"),
        ("-{a}- -<nowiki>{b}</nowiki>- <nowiki>-{</nowiki>c}-", "a -{b}- -{c}-"),
        ("''x'' <nowiki>''</nowiki> <syntaxhighlight>s = ''; -{t}-</syntaxhighlight>", "x '' s = ''; -{t}-"),
    ],
)
def test_what_a_reader_of_wikitext_sees(wikitext, text):
    assert stripped(wikitext) == text


def test_line_breaks_close_no_tags(site, tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "<br/>" * 200 + "<ref>" * 200, "format": "wikitext"}, {"text": "fine"}])
    assert quarantine(read(site, tmp_path / "a.jsonl")) == [(1, "broken_wikitext")]


# mail

MAIL = b"""From someone@x.test Thu Aug 22 12:36:23 2002
Received: from a by b
From: =?utf-8?b?5bCP5piO?= <ming@x.test>
Subject: =?gb2312?B?1tDOxA==?= news
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/plain; charset=gb2312
Content-Transfer-Encoding: quoted-printable

=D6=D0=CE=C4 answer

On Monday, Ann wrote:
> quoted
JM> also quoted
end
--b
Content-Type: text/plain
Content-Disposition: attachment; filename=a.txt

attached
--b--
"""


@pytest.mark.parametrize(
    ("mail", "text"),
    [
        (DROP, "Subject: 中文 news\n\n中文 answer\n\nend"),
        (KEEP, "Subject: 中文 news\n\n中文 answer\n\nOn Monday, Ann wrote:\n> quoted\nJM> also quoted\nend"),
        (DROP | {"headers": ["from", "subject"]}, "From: 小明 <ming@x.test>\nSubject: 中文 news\n\n中文 answer\n\nend"),
        (DROP | {"headers": []}, "中文 answer\n\nend"),
    ],
)
def test_a_message_becomes_its_body(site, tmp_path, mail, text):
    assert texts(read(site, put(tmp_path / "a.eml", MAIL), mail=mail)) == [text]


def test_a_message_in_a_row_and_in_a_file_without_suffix(site, tmp_path):
    latin = "Subject: x\nContent-Type: text/plain; charset=iso-8859-1\n\ncaf\u00e9\n"
    rows = [
        {"id": "a", "text": latin, "format": "rfc822", "decoded_as": "latin-1", "lang": "fr"},
        {"id": "b", "text": "Subject: y\n\nno charset: \u4e2d", "format": "rfc822"},
    ]
    write_jsonl(tmp_path / "a.jsonl", rows)
    put(tmp_path / "noname", "Message-ID: <1@x.test>\nSubject: z\n\nbody")
    rows = documents(read(site, tmp_path / "a.jsonl", tmp_path / "noname", mail=KEEP))
    assert [(row["id"], row["lang"], row["text"]) for row in rows] == [
        ("test/a", "fr", "Subject: x\n\ncaf\u00e9\n"),
        ("test/b", None, "Subject: y\n\nno charset: \u4e2d"),
        ("test/noname", None, "Subject: z\n\nbody"),
    ]


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"Content-Type: text/html\nSubject: a & b\n\n<p>x</p>", "<p>Subject: a &amp; b</p>\n<p>x</p>"),
        (b"Content-Type: image/png\n\nx", "no_text"),
        (b"Content-Type: text/plain; charset=utf-8\n\n\xff\x81\x8d", "undecodable"),
        (b"Subject: only a subject\n\n\n", "empty_text"),
        (b"Subject: =?nonsense?q?x=81=8D?=\n\nbody", "Subject: =?nonsense?q?x=81=8D?=\n\nbody"),
        (b"Subject: =?nonsense?q?x?=\n\nbody", "Subject: x\n\nbody"),
    ],
)
def test_other_messages(site, tmp_path, data, outcome):
    corpus = read(site, put(tmp_path / "a.eml", data), put(tmp_path / "b.txt", "fine"), mail=KEEP)
    assert [*texts(corpus)[:-1], *(reason for _, reason in quarantine(corpus))] == [outcome]


def test_mail_without_a_word_on_quoting_is_quarantined_or_refused(site, tmp_path):
    corpus = read(site, put(tmp_path / "a.eml", MAIL), put(tmp_path / "b.txt", "fine"))
    assert quarantine(corpus) == [(1, "mail_not_configured")]
    with pytest.raises(ValidationError, match="set mail = "):
        source(tmp_path, format="mbox")
    with pytest.raises(ValidationError, match="quoting"):
        source(tmp_path, mail={})


def test_an_mbox_holds_many_messages(site, tmp_path):
    one = MAIL.decode().replace("gb2312\nContent-T", "us-ascii\nX-T").replace("=D6=D0=CE=C4", "From the start")
    last = "From b@x.test Fri Aug 23 1:00:00 2002\nSubject: c\n\nlast\n"
    data = f"{one}\n{one.replace('end', 'x' * 900)}\nFrom here no message starts\n\n{last}"
    corpus = read(site, put(tmp_path / "a.mbox", data), mail=DROP, max_document_bytes=1_000)
    assert [text.splitlines()[0] for text in texts(corpus)] == ["Subject: 中文 news", "Subject: c"]
    assert quarantine(corpus) == [(2, "too_large")]


def test_lines_that_an_mbox_escapes_are_none_of_a_quotation(site, tmp_path):
    one = "From a@x.test Fri Aug 23 1:00:00 2002\nSubject: c\n\n>From here on it is mine.\n>>From there\n> said\n"
    corpus = read(site, put(tmp_path / "a.mbox", one), mail=DROP)
    assert texts(corpus) == ["Subject: c\n\nFrom here on it is mine."]


@pytest.mark.parametrize(
    ("charset", "data"),
    [("gb2312", "中文消息".encode("gbk")), ("gb2312", "中文消息".encode()), ("x", "中文消息".encode())],
)
def test_bytes_in_a_header_are_read_as_the_text_is(site, tmp_path, charset, data):
    mail = b"Subject: Re: " + data + f"\nContent-Type: text/plain; charset={charset}\n\nbody".encode()
    assert texts(read(site, put(tmp_path / "a.eml", mail), mail=KEEP)) == ["Subject: Re: 中文消息\n\nbody"]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (b"=?gb2312?B?" + b64encode("朱镕基".encode("gbk")) + b"?=", "朱镕基"),  # the second character is not of GB 2312
        (b"=?\xb9\xfa?B?" + b64encode("中文".encode()) + b"?=", "中文"),
        (b"=?utf-8?q?a?= =?utf-8?q?b?= c =?utf-8?q?d?= e", "ab c d e"),
        (b"plain =?utf-8?B?not base64?= here", "plain =?utf-8?B?not base64?= here"),
    ],
)
def test_encoded_words_are_read_as_what_they_are(site, tmp_path, word, text):
    mail = b"Subject: " + word + b"\nContent-Type: text/plain\n\nbody"
    assert texts(read(site, put(tmp_path / "a.eml", mail), mail=KEEP)) == [f"Subject: {text}\n\nbody"]


@pytest.mark.parametrize(("disposition", "text"), [("attachment", "mine"), ("inline", "mine\n\nits text\n")])
def test_the_text_of_an_attached_message_is_none_of_the_body(site, tmp_path, disposition, text):
    attached = f"Content-Type: message/rfc822\nContent-Disposition: {disposition}\n\nSubject: other\n\nits text\n"
    mail = f"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nmine\n--b\n{attached}\n--b--\n"
    assert texts(read(site, put(tmp_path / "a.eml", mail), mail=KEEP | {"headers": []})) == [text]


def test_what_counts_as_quoted():
    assert unquoted("a\n\n> b\nc") == "a\n\nc"
    assert unquoted("a\n-----Original Message-----\nFrom: x") == "a"
    assert unquoted("he wrote:\n\nstays") == "he wrote:\n\nstays"


# man

MAN = r""".\" comment
.de Vb
.nf
..
.ie n \{\
.ds C` quoted
'br\}
.el .ds C` never
.TH LS 1 "2003" \" date
.SH 名称
ls \- 列出
目录内容
.SH "SEE ALSO"
.TP
.B \-a, \fB\-\-all\fR
show \*(C` all
.IP \(bu 2
item
.nf
code  \e
  more
.fi
.BR man (1),
.IR x (7)
.if t never
.TS
l l.
a	b
.TE
\[u4E2D]\(em\h'1'"""


def test_a_man_page_becomes_text():
    assert page_text(MAN).splitlines() == [
        *("# ls(1)", "", "## 名称", "", "ls - 列出目录内容", "", "## SEE ALSO", ""),
        *("-a, --all", "show quoted all", "", "- item", "code  \\", "  more", "man(1), x(7)", "", "a | b", "", "中—"),
    ]


def test_mdoc_words():
    page = ".Dt CAT 1\n.Sh NAME\n.Nm cat\n.Nd join files\n.Sh SYNOPSIS\n.Nm\n.Op Fl bn\n.Op Ar file ...\n"
    page += ".Pp\nSee\n.Xr less 1 ,\n.Pq Em x ."
    assert page_text(page).split("\n\n") == [
        *("# cat(1)", "## NAME", "cat - join files", "## SYNOPSIS", "cat [-bn] [file ...]", "See less(1), (x)."),
    ]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (".In stdio.h\n.Ft int\n.Fo foo\n.Fa a\n.Fc", "<stdio.h> int foo( a )"),
        (".Brq x y\n.Bro\n.Ar z\n.Brc\n.Lb libc", "{x y} { z } libc"),
        (".Rs\n.%A A. Author\n.%T Title\n.%D 1999\n.Re", "A. Author Title 1999"),
        (".SY groff\n.OP \\-a\n.YS\nsee\n.MR ls 1 ,", "groff [-a]\n\nsee ls(1),"),
        (".UR http://x.test\nhere\n.UE .\n.MT a@x.test\n.ME\n.MR ls", "http://x.test here. a@x.test ls"),
    ],
)
def test_macros_that_hold_words_lose_none(lines, text):
    assert page_text(lines) == text


@pytest.mark.timeout(20)
@pytest.mark.parametrize("line", ["\\[", "\\*[", "\\f[", "\\s[", "\\$["])
def test_a_bracket_that_is_never_closed_costs_no_more_than_its_line(line):
    assert len(page_text(line * 30_000)) <= 60_000


@pytest.mark.parametrize(
    ("line", "text"), [(f"a{' ' * 300_000}b\\e", "a b\\"), ('a \\" c', "a"), ('a\\  \\" c', "a"), ('a\\\\\\" c', "a\\")]
)
def test_a_comment_is_found_in_a_line_of_spaces(line, text):
    assert page_text(line) == text


def test_man_pages_are_known_by_their_content(site, tmp_path):
    put(tmp_path / "ls.1.gz", gzip.compress(MAN.encode()))
    put(tmp_path / "log.1", "an old log")
    put(tmp_path / "other.1", ".so man1/ls.1\n")
    write_jsonl(tmp_path / "rows.jsonl", [{"id": "row", "text": MAN, "format": "roff"}])
    corpus = read(site, tmp_path / "*")
    assert [row["id"] for row in documents(corpus)] == ["test/ls.1.gz", "test/row"]
    assert len(set(texts(corpus))) == 1
    assert quarantine(corpus) == [(1, "unknown_format"), (1, "alias")]


def test_a_page_cannot_read_files_or_grow_without_end():
    assert "root:" not in page_text(".TH A 1\n.so /etc/passwd\n.sy cat /etc/passwd\ntext")
    growing = ".ds a xxxxxxxxxx\n" + ".ds a \\*a\\*a\\*a\n" * 100 + "\\*a\n"
    assert len(page_text(growing)) < 100


def test_a_page_of_conditions_without_end_is_quarantined(site, tmp_path):
    put(tmp_path / "deep.man", ".TH A 1\n" + ".if n " * 2_000 + "x")
    write_jsonl(tmp_path / "rows.jsonl", [{"id": "row", "text": ".if n " * 100 + "x\n" + ".if n y\n" * 200, "format": "roff"}])
    corpus = read(site, tmp_path / "*")
    assert quarantine(corpus) == [(1, "broken_roff")]
    assert texts(corpus) == ["x" + " y" * 200]
    assert corpus.num_records == 2


# formats by content


@pytest.mark.parametrize(
    ("data", "format"),
    [
        ("<!DOCTYPE html><p>x</p>", "html"),
        ('{"text": "x"}\n', "plain"),
        ('\ufeff{"text": "' + "x" * 20_000 + '"}\n', "plain"),
        ("<?xml version='1.0'?>\n<html><p>x</p></html>", "html"),
    ],
)
def test_a_file_without_a_known_suffix_is_known_by_its_mark(site, tmp_path, data, format):
    assert [row["format"] for row in documents(read(site, put(tmp_path / "a.dat", data)))] == [format]


def test_a_set_format_goes_before_suffix_and_content(site, tmp_path):
    put(tmp_path / "a.jsonl", json.dumps({"text": "x"}))
    assert texts(read(site, tmp_path / "a.jsonl", format="txt")) == ['{"text": "x"}']


def test_a_document_a_line(site, tmp_path):
    path = put(tmp_path / "a.txt", b"one\r\n\n \ntwo\n" + b"x" * 50 + b"\n\xff\xfe\x81\n")
    corpus = read(site, path, format="lines", max_document_bytes=40)
    assert [(row["id"], row["text"]) for row in documents(corpus)] == [("test/a.txt:1", "one"), ("test/a.txt:4", "two")]
    assert quarantine(corpus) == [(5, "too_large"), (6, "undecodable")]


POEM = "床前明月光，疑是地上霜。"


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.txt", POEM), ("a.html", POEM), ("a.csv", f"题目,text\n静夜思,{POEM}\n")],
)
def test_a_source_says_the_encoding_of_its_text(site, tmp_path, name, data):
    paths = (put(tmp_path / name, data.encode("gbk")), put(tmp_path / "utf-8.txt", POEM))
    detected = read(site, *paths)
    assert "`encoding` of the source" in next(read_rows(detected.path / "quarantine.parquet"))["detail"]
    assert texts(read(site, *paths, encoding="gb18030")) == [POEM, POEM]


def test_a_line_has_the_encoding_of_its_source(site, tmp_path):
    path = put(tmp_path / "a.txt", f"{POEM}\n{POEM}\n".encode("big5"))
    assert texts(read(site, path, format="lines", encoding="big5")) == [POEM, POEM]


def test_only_text_has_an_encoding(tmp_path):
    with pytest.raises(ValidationError, match=r"encoding is of txt, lines, .* and format is jsonl"):
        source(tmp_path, format="jsonl", encoding="big5")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a" * 99 + "\n\nb\n", ["a" * 99 + "\n\n", "b\n"]),
        ("a" * 50 + "\n\n" + "b" * 50 + "\n \n\nc", ["a" * 50 + "\n\n" + "b" * 50 + "\n \n\n", "c"]),
        ("行" * 120 + "\n" + "行" * 120 + "\nx\r\n", ["行" * 120 + "\n" + "行" * 120 + "\n", "x\r\n"]),
        ("\n\n short\x85\n", ["\n\n short\x85\n"]),
        ("\n \n", ["\n \n"]),
        ("", [""]),
    ],
)
def test_passages_are_whole_lines_and_together_the_text(text, found):
    assert list(passages(text, 100)) == found
    assert "".join(found) == text


def test_a_book_is_cut_into_passages_where_the_recipe_says_so(site, tmp_path):
    path = put(tmp_path / "book.txt", ("word " * 30 + "\n\n") * 3)
    assert len(documents(read(site, path))) == 1
    corpus = read(site, path, passage_chars=100)
    assert [row["id"] for row in documents(corpus)] == [f"test/book.txt:{number}" for number in (1, 2, 3)]
    assert corpus.num_records == 3


def test_only_text_files_can_be_cut_into_passages(tmp_path):
    path = put(tmp_path / "a.txt", "x")
    assert source(path, format="txt", passage_chars=100).passage_chars == 100
    with pytest.raises(ValidationError, match="passage_chars = 100 cuts txt files only, and format is lines; remove one"):
        source(path, format="lines", passage_chars=100)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("of socialism.Humans lived (long ago).A state", "of socialism.\n\nHumans lived (long ago).\n\nA state"),
        ('he said "no."Then he left in 1990.In May', 'he said "no."\n\nThen he left in 1990.\n\nIn May'),
        ("The U.S.A., e.g. 3.5, at example.com. It is. So.", "The U.S.A., e.g. 3.5, at example.com. It is. So."),
        ("句子。The end.结束", "句子。The end.结束"),
    ],
)
def test_lost_breaks_come_back_between_sentences_that_are_glued(text, found):
    assert restore_breaks(text) == found


def test_breaks_are_restored_where_the_recipe_says_so(site, tmp_path):
    path = put(tmp_path / "a.txt", "It ended.Then another began.\n")
    (as_it_is,) = documents(read(site, path, format="lines"))
    (restored,) = documents(read(site, path, format="lines", restore_breaks=True))
    assert (as_it_is["text"], restored["text"]) == ("It ended.Then another began.", "It ended.\n\nThen another began.")
    assert as_it_is["id"] == restored["id"]


def test_every_format_can_be_named_in_a_recipe():
    assert set(get_args(Format)) == {"auto", *FORMATS}
