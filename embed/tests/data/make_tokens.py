"""Writes tokens.jsonl and sweep.txt with the reference tokenizer: pip install tokenizers==0.23.3; make_tokens.py TOKENIZER.json DIR

tokens.jsonl  texts and their token numbers, cut at 256
sweep.txt     for each block of 4,096 characters, FNV-1a (64 bits) over the numbers of "a<character>b" for each
"""
import json
import sys

from tokenizers import Tokenizer

TEXTS = [
    "", " ", "\n\t ", "Hello, world!", "unaffable UNAFFABLE unAFFable", "don't can't I'm", "a.b,c;d", "...", "-- – — ―",
    "[SEP]", "a[SEP]b", "[sep]", "[[CLS]] [MASK][MASK] [PAD", "[UNK] [unk]", "[PAD]x[PAD]", "##ing", "play ##ing # #ing",
    "https://example.org/a_b?c=1&d=%20", "x@example.org", "3.14159 1,000,000 0x1F 10^-3", "C++ C# F# .NET node.js",
    "fn main() { let x: Vec<u8> = vec![0; 4]; }", "SELECT * FROM t WHERE a <=> '[1,2]' -- x",
    "café cafe\u0301 CAFÉ naïve Ångström", "Straße STRASSE ẞ", "İstanbul ISTANBUL ıİ", "ΟΔΥΣΣΕΥΣ οδυσσεύς ς", "ǅ ǆ ǈ ŉ",
    "ﬁ ﬂ ﬀ ½ ² ™ ℃ Ⅷ ①", "ＦＵＬＬ　ｗｉｄｔｈ", "𝒜𝓁𝑔ℯ𝒷𝓇𝒶 𝐁𝐨𝐥𝐝", "中文測試", "東京タワーは高い", "日本語abc混在", "\u3007\u2b820\U0002b820\U0002b821\U0002b81f",
    "豈\uf900\U0002f800", "한국어 문장", "\u1112\u1161\u11ab", "العَرَبِيَّة", "עִבְרִית", "हिन्दी नमस्ते", "ไทย ภาษา", "தமிழ்", "Русский ЁЖ й",
    "Tiếng Việt ngữ", "ᏣᎳᎩ ꭳ", "𐐀𐐨", "😀 👩‍👩‍👧 🇨🇭 👍🏽", "a\u200bb\u200dc\u00add", "a\u00a0b\u2003c\u2028d\u2029e\u0085f", "\ufeffbom", "nul\x00l",
    "\x01\x02bell\x07", "\ufffd\ufffe\uffff", "\ue000\U000f0000", "a\u0300\u0301\u0302\u0303b", "\u0301", "\u0301\u0301 \u0301",
    "q\u0323\u0307 q\u0307\u0323", "¿Qué? ¡Sí!", "«guillemets» „quotes“ ‚x‘", "§ ¶ † ‡ • ‰ ′ ″", "$€£¥₹₿", "a+b=c<d>e|f~g^h`i", "x" * 99, "x" * 100,
    "x" * 101, "x" * 101 + " after", "é" * 100, "é" * 101, "\u0301" * 300 + "a", "x" * 60 + "." + "x" * 60, "字" * 300, "word " * 300, "a" * 5000 + " b",
    "ab" * 40 + " " + "zq" * 45, "☃snow☃man", "Zoë\u2019s rock\u2019n\u2019roll", "100%_sure", "\\n \\u0041", "line\r\nbreak\rend", "a\u0345b \u0344 \u0385",
    "\u037e\u0387\u1fef", "\u212a\u212b\u2126", "\u0f77 \u0f73", "\u0130\u0307", "\u1e9e", "\u01c5\u01f2", "\u2160\u2170", "\u24b6\u24d0",
    "e[SEP", "[MASK]\u0301a", "é[SEP]\u0301", "a [CLS] " * 100,
]


def fnv(numbers, state=0xCBF29CE484222325):
    for number in numbers:
        for byte in number.to_bytes(4, "little"):
            state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def main(tokenizer_json, directory):
    tokenizer = Tokenizer.from_file(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    with open(f"{directory}/tokens.jsonl", "w", encoding="ascii") as out:
        for text in TEXTS:
            out.write(json.dumps({"text": text, "ids": tokenizer.encode(text).ids}, separators=(",", ":")) + "\n")
    with open(f"{directory}/sweep.txt", "w", encoding="ascii") as out:
        for block in range(0, 0x110000, 4096):
            characters = [c for c in range(block, block + 4096) if not 0xD800 <= c <= 0xDFFF]
            state = 0xCBF29CE484222325
            for encoding in tokenizer.encode_batch([f"a{chr(c)}b" for c in characters]):
                state = fnv(encoding.ids, state)
            out.write(f"{block:06x} {state:016x}\n")


main(*sys.argv[1:])
