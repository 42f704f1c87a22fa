"""Extraction: prose, headings, lists, tables and code of HTML stay; navigation goes."""

import gzip
import json

import pytest

from tasks.cleaning.extract import Unextractable, extract

PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<html><head><title>T</title><style>p {}</style></head><body>
<div id="banner"><a href="/get">Download</a></div>
<ul class="docnav"><li><a href="p">Prev</a></li><li><a href="n">Next</a></li></ul>
<div class="section"><h2 class="title">6.2. The <code>apt</code> command</h2>
<div class="para">Use <code class="command">apt
 install</code> or
   <em>nothing</em>.</div>
<div class="sidebar"><p class="title"><strong>TIP</strong> Save time</p><div class="para">A tip.</div></div>
<pre class="screen"><code>$ </code><strong>sudo apt update
  done</strong></pre>
<ul><li>one <b>bold</b></li><li>two<ul><li>inner</li></ul></li></ul>
<table><tr><th>Name</th><th>What</th></tr><tr><td><code>ls</code></td><td>lists</td></tr><tr><td></td><td>note</td></tr></table>
<script>alert(1)</script><!-- comment -->
</div>
<footer>Copyright</footer></body></html>"""


def test_a_page_of_documentation():
    assert extract(PAGE, "html", "documentation") == (
        "## 6.2. The `apt` command\n\nUse `apt install` or nothing.\n\nTIP Save time\n\nA tip.\n\n"
        "```\n$ sudo apt update\n  done\n```\n\n- one bold\n- two\n  - inner\n\nName | What\n`ls` | lists\nnote\n"
    )


def test_an_article_keeps_names_of_commands_in_their_sentence():
    text = "".join(
        f"<p>Sentence number {number} speaks of <code>apt</code> and of what it does for you.</p>" for number in range(9)
    )
    found = extract(f"<html><body><nav>Menu</nav><article>{text}</article></body></html>", "html", "article")
    assert "Sentence number 3 speaks of `apt` and of what it does for you." in found.splitlines()
    assert "Menu" not in found


@pytest.mark.parametrize("mode", ["documentation", "article"])
@pytest.mark.parametrize("control", ["\x0b", "\x0c", "\x1b", "\uffff", "&#11;", "&#27;"])
@pytest.mark.parametrize(
    "markup",
    ["<p>Line one<br>{}two.</p>", "<script>x()</script>{}<p>Line one two.</p>", "<p>Line <code>one{}</code> two.</p>"],
)
def test_a_control_character_is_no_reason_to_stop(markup, control, mode):
    found = extract(f"<html><body>{markup.format(control)}</body></html>", "html", mode)
    assert found.replace("`", "").split() == ["Line", "one", "two."]


def test_what_a_terminal_would_colour_is_text_and_a_form_feed_a_space():
    assert extract("<p>a \x1b[36mblue\x1b[0m word,\x0cb\x08c</p>", "html", "documentation") == "a blue word, bc\n"


@pytest.mark.parametrize("markup", ["<kbd><kbd>Ctrl</kbd>+<kbd>C</kbd></kbd>", "<code><tt>Ctrl+<b><kbd>C</kbd></b></tt></code>"])
def test_code_in_code_is_marked_once(markup):
    assert extract(f"<p>Press {markup} to end it.</p>", "html", "article").strip() == "Press `Ctrl+C` to end it."


@pytest.mark.parametrize("format", ["plain", "markdown", "md", "txt"])
def test_text_is_taken_as_it_is(format):
    assert extract("# a <b>\n\n  code", format, "documentation") == "# a <b>\n\n  code"


@pytest.mark.parametrize(
    ("text", "format", "reason"),
    [
        ("x", "roff", "unsupported_format"),
        ("", "html", "broken_html"),
        ("<html><body><nav>Menu</nav></body></html>", "html", "no_text_in_html"),
        ("<html><body><script>x</script></body></html>", "html", "no_text_in_html"),
    ],
)
def test_what_has_no_text_says_why(text, format, reason):
    with pytest.raises(Unextractable, match=reason):
        extract(text, format, "documentation")


def test_a_wrapper_with_an_unlucky_name_does_not_empty_the_page():
    page = f"<html><body><div class='main-menu'><p>{'Real text. ' * 20}</p></div></body></html>"
    assert "Real text." in extract(page, "html", "documentation")


def test_a_page_inside_of_a_form_is_kept_and_a_form_in_a_page_is_not():
    search = "<form><label>Search</label><input name='q'><button>Go</button></form>"
    page = f"<p>{'Real text. ' * 9}</p><select><option>A</option></select>"
    assert extract(f"<html><body><form>{page}</form></body></html>", "html", "documentation").split() == ["Real", "text."] * 9
    assert "Search" not in extract(f"<html><body>{search}{page}</body></html>", "html", "documentation")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<pre>a<br>  b</pre>", "```\na\n  b\n```\n"),
        ("<h1>Click <b>Save </b>now</h1>", "# Click Save now\n"),
        ("<table><tr><td>Label<div>value</div></td><td>x</td></tr></table>", "Label value | x\n"),
        ("<h1>A<br>B</h1>one<br>two", "# A B\n\none\ntwo\n"),
        ("<table><tr><td>foo<br>bar</td><td><p>baz</p></td></tr></table>", "foo bar | baz\n"),
        ("<table><tr><td><p>One.</p><p>Two.</p></td><td>side</td></tr></table>", "One.\n\nTwo.\n\nside\n"),
        (
            "<table><tr><td class='linenos'><pre>1\n2</pre></td><td><pre>a\nb</pre></td></tr></table><p>x</p>",
            "```\na\nb\n```\n\nx\n",
        ),
        ("<table><tr><td><table><tr><td>in</td><td>ner</td></tr></table></td></tr></table>", "in | ner\n"),
    ],
)
def test_line_breaks_and_cells_that_hold_blocks(markup, text):
    assert extract(f"<html><body>{markup}</body></html>", "html", "documentation") == text


def test_a_list_of_links_goes_and_a_sentence_with_links_stays():
    page = (
        "<html><body><p>Text that stays here.</p><ul><li><a href='a'>One page</a></li><li><a href='b'>Other page</a></li></ul>"
        "<p>See <a href='a'>one</a> and <a href='b'>two</a> for what else there is to know.</p></body></html>"
    )
    found = extract(page, "html", "documentation")
    assert found == "Text that stays here.\n\nSee one and two for what else there is to know.\n"


def nested(depth):
    return "<html><body><p>Head.</p>" + "<div>" * depth + "text" + "</div>" * depth + "<p>Tail.</p></body></html>"


def test_what_is_nested_deep_is_kept():
    assert extract(nested(200), "html", "documentation").split() == ["Head.", "text", "Tail."]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("mode", ["documentation", "article"])
@pytest.mark.parametrize("depth", [260, 50_000])
def test_a_page_that_would_be_cut_off_is_broken(depth, mode):
    with pytest.raises(Unextractable, match="broken_html"):
        extract(nested(depth), "html", mode)


@pytest.mark.timeout(20)
def test_many_menus_are_no_more_than_their_length():
    menus = "<div class='menu'>One</div>" * 50_000
    assert extract(f"<html><body>{menus}<p>Text.</p></body></html>", "html", "documentation") == "Text.\n"


def test_markup_that_is_broken_still_gives_its_text():
    assert extract("<p>one <b>two</p><p>three &lt;four&gt;", "html", "documentation") == "one two\n\nthree <four>\n"


def test_the_handbook_keeps_prose_code_and_lists_in_both_languages(shared_data):
    with gzip.open(shared_data / "corpus" / "debian_docs_zh_en.jsonl.gz", "rt", encoding="utf-8") as file:
        pages = {row["id"]: row["text"] for row in map(json.loads, file) if row["id"].endswith("/sect.apt-get.html")}
    english, chinese = (
        extract(next(text for id, text in pages.items() if lang in id), "html", "documentation") for lang in ("en-US", "zh-CN")
    )
    assert english.startswith("## 6.2. `aptitude`, `apt-get`, and `apt` Commands\n")
    assert "and `apt-get` is the first front end" in english
    assert "TIP Incremental updates" in english
    assert '```\n$ sudo apt -o "Acquire::PDiffs=false" update\n```' in english
    assert chinese.startswith("## 6.2. `aptitude`、`apt-get`和 `apt` 命令\n")
    assert "`apt` 是 APT 的第二个基于命令行的前端" in chinese
    for page in (english, chinese):
        assert "Download the ebook" not in page
        assert "Prev" not in page.split()
