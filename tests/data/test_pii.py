"""Personal data is masked; versions, dates, sections and example addresses are not."""

from hashlib import sha256

import pytest

from tasks.cleaning.pii import KINDS, MARKS, mask


@pytest.mark.parametrize(
    ("text", "masked", "kind"),
    [
        ("write to jane.doe+x@mail.debian.org, please", "write to <email>, please", "mail"),
        ("邮箱：zhang_san@163.com。", "邮箱：<email>。", "mail"),
        ("<root@server7.company.cn>", "<<email>>", "mail"),
        ("from 220.181.111.147 port 22", "from <ip> port 22", "ip"),
        ("host (202.38.64.9)", "host (<ip>)", "ip"),
        ("via 2409:8c70:3a00:42:3a::1 dev eth0", "via <ip> dev eth0", "ip"),
        ("电话13812345678。", "电话<phone>。", "mobile"),
        ("call +86 138-1234-5678 now", "call <phone> now", "mobile"),
        ("inet addr:93.184.216.34 and", "inet addr:<ip> and", "ip"),
        ("电话13812345678-8001。", "电话<phone>-8001。", "mobile"),
        ("身份证11010519491231002X号", "身份证<id-number>号", "identity_number"),
        ("Tel.13812345678", "Tel.<phone>", "mobile"),
        ("TEL13812345678", "TEL<phone>", "mobile"),
        ("13812345678/010-12345678", "<phone>/010-12345678", "mobile"),
        ("call 008613812345678 now", "call <phone> now", "mobile"),
        ("route 2606:4700::/32 and", "route <ip>/32 and", "ip"),
        ("from [2606::6810:84e5]", "from [<ip>]", "ip"),
        ("id 440524188001010014", "id 440524188001010014", None),
        ("手机：１３８００１３８０００，欢迎来电！", "手机：<phone>，欢迎来电！", "mobile"),
        ("邮箱：zhangsan＠qq.com。", "邮箱：<email>。", "mail"),
        ("身份证１１０１０５１９４９１２３１００２Ｘ，Ａ座", "身份证<id-number>，Ａ座", "identity_number"),
        ("电话：138—0013—8000。", "电话：<phone>。", "mobile"),
        ("电话——１３８００１３８０００／家", "电话——<phone>／家", "mobile"),
        ("ＩＰ：２２０．１８１．１１１．１４７。", "ＩＰ：<ip>。", "ip"),
        ("call ＋４４ ２０ ７９４６ ０９５８ now", "call <phone> now", "phone"),
        ("１９９０—２０００年，13812345678—13987654321", "１９９０—２０００年，<phone>—<phone>", "mobile"),
    ],
)
def test_each_kind(text, masked, kind):
    found, counts = mask(text)
    assert found == masked
    assert dict(counts) == ({kind: masked.count("<phone>") or 1} if kind else {})


@pytest.mark.parametrize(
    "text",
    [
        "see section 9.2.1.4 and 14.3.4.2",
        "#### 12.1.1.3. Backup",
        "kernel version 2.6.32.220 and 版本 3.10.0.229",
        "package libfoo-1.2.34.56 or v200.100.1.2",
        "on 2024-01-15 at 13:45:12, 20240115",
        "loopback 127.0.0.1, private 192.168.1.10 and 10.0.0.200, documentation 203.0.113.5, ::1, fe80::1",
        "netmask 255.255.255.0",
        "someone@example.com and root@localhost and a@b.test",
        "git@ and @decorator and user@host",
        "serial 138123456789012 and 0.13812345678 and 13812345678901.txt",
        "number 110105194912310021 has a wrong check digit",
        "mac 00:1a:2b:3c:4d:5e and time 12:34:56",
        "999.999.999.999",
        "x[2000::2], a[2000:4000:2], face::bad, 2606:: and 2001:db8::",
        "hotel.13812345678.txt and file_tel13812345678",
        "time 2024:10:11:: and 2024:10::",
        "epoch 1:2.36.56.120 and 12:34:56:93.184.216.34",
        "/13812345678/13987654321/ and 13812345678/7 and 13812345678-80012345 and 13812345678-8001-2",
    ],
)
def test_what_is_no_personal_data_stays(text):
    assert mask(text) == (text, {})


def test_several_pieces_are_counted_by_kind():
    text, counts = mask("a@b.cn c@d.cn 220.181.111.147 电话13812345678/13987654321")
    assert text == "<email> <email> <ip> 电话<phone>/<phone>"
    assert dict(counts) == {"mail": 2, "ip": 1, "mobile": 2}


def test_masking_twice_changes_nothing():
    text, _ = mask("a@b.cn 13812345678 220.181.111.147 11010519491231002X")
    assert mask(text) == (text, {})


AWS = "AKIA" + "QX7TNB4M2KD9WZPL"  # in two parts, so that no scanner of secrets takes a made-up key for one
WEB_TOKEN = "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0NTY3ODkw.SflKxwRJSMeKKF2QT4fw"
LONG = "".join(sha256(str(number).encode()).hexdigest()[:30] for number in range(10))


@pytest.mark.parametrize(
    ("text", "masked", "kind"),
    [
        ("card 4539 1488 0343 6467 valid", "card <card> valid", "card"),
        ("卡号6222021234567890128。", "卡号<card>。", "card"),
        ("卡号6222 0212 3456 7890 128。", "卡号<card>。", "card"),
        ("amex 3782-822463-10005", "amex <card>", "card"),
        ("call +44 20 7946 0958 or", "call <phone> or", "phone"),
        ("tel. +1 (415) 555-2671.", "tel. <phone>.", "phone"),
        ("fax:+8520 21234567", "fax:<phone>", "phone"),
        (f"id={AWS};", "id=<secret>;", "secret"),
        ("ghp_" + "a1B2" * 9, "<secret>", "secret"),
        ('api_key = "Zx81kQ0pLmV7wYt3NcR5bHdE"', 'api_key = "<secret>"', "secret"),
        ("export OPENAI_API_KEY=Zx81kQ0pLmV7wYt3NcR5bHdE", "export OPENAI_API_KEY=<secret>", "secret"),
        ("aws_secret_access_key = Zx81kQ0pLmV7wYt3NcR5bHdE", "aws_secret_access_key = <secret>", "secret"),
        (f"Authorization: Bearer {WEB_TOKEN}", "Authorization: Bearer <secret>", "secret"),
        (f"access_token={LONG}.", "access_token=<secret>.", "secret"),
        ("api_key=sk-" + "abcdefghijklmnopqrstuvwxyz", "api_key=<secret>", "secret"),
        (r"-----BEGIN PRIVATE KEY-----\nMIIE\nAB==\n-----END PRIVATE KEY-----\n", r"<secret>\n", "secret"),
        ("Authorization: Bearer q7Zk2mX9wP4rT8vB1nJ6", "Authorization: Bearer <secret>", "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nAB==\n-----END RSA PRIVATE KEY-----", "<secret>", "secret"),
    ],
)
def test_cards_phones_and_secrets(text, masked, kind):
    assert mask(text) == (masked, {kind: 1})
    assert mask(masked) == (masked, {})


@pytest.mark.parametrize(
    "text",
    [
        "card 4539 1488 0343 6468 has a wrong check digit",
        "1234567812345670 is of no issuer",
        "4539 148803436467 is in no groups of a card",
        "0.4539148803436467 and 4539148803436467.5 are measures",
        "at +0000, +10 000 000 people, C++11 2003 1998, +1.2345678901 and +1 234",
        "2002100915 and +0 12345678 and +83 12345678",
        "api_key=sk-xxxxxxxxxxxxxxxxxxxxxxxx",
        "AKIAIOSFODNN7EXAMPLE and sk-xxxxxxxxxxxxxxxxxxxxxxxx",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "password: correct-horse-battery-staple",
        "token = getenv_or_default_value_of_setting",
    ],
)
def test_what_only_looks_like_cards_phones_and_secrets_stays(text):
    assert mask(text) == (text, {})


def test_only_the_kinds_asked_for_are_masked():
    text = "a@b.cn +44 20 7946 0958 220.181.111.147"
    assert mask(text, ["phone"]) == ("a@b.cn <phone> 220.181.111.147", {"phone": 1})
    assert mask(text, []) == (text, {})


def test_every_mark_names_its_kinds():
    assert MARKS["<phone>"] == ("mobile", "phone")
    assert MARKS["<ip>"] == ("ip",)
    assert {kind for kinds in MARKS.values() for kind in kinds} == set(KINDS)
