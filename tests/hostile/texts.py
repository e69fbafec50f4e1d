"""Hostile vocabularies, merges and tokenizer.json."""
import json

from forms import BYTES, EOT, VOCAB, Case, Fifo, Folder, Link, Long, Socket, dumps, model, tokenizer_json, vocab


def in_vocab(name, content, *says, heavy=False):
    return Case("vocab.json: " + name, model(vocab_json=content), "vocab.json: ", *says, runs="tokenizer", heavy=heavy)


def in_merges(name, content, *says, tokens=None):
    content = content.encode() if isinstance(content, str) else content
    files = model(merges_txt=content) if tokens is None else model(merges_txt=content, vocab_json=vocab(tokens=tokens))
    return Case("merges.txt: " + name, files, "merges.txt: ", *says, runs="tokenizer")


def in_json(name, content, *says):
    return Case("tokenizer.json: " + name, model(vocab_json=None, merges_txt=None, tokenizer_json=content), "tokenizer.json: ", *says,
                runs="tokenizer")


def places():
    """What can stand where vocab.json and merges.txt should."""
    for file, key in (("vocab.json", "vocab_json"), ("merges.txt", "merges_txt")):
        for name, content, part in (("a folder", Folder(), "is a directory, expected a regular file"), ("a FIFO", Fifo(), "not a regular file"),
                                    ("a socket", Socket(), "No such device or address"), ("empty", b"", "the file is empty"),
                                    ("/dev/zero", Link("/dev/zero"), "not a regular file"), ("a loop", Link(file), "Too many levels"),
                                    ("a link to nothing", Link("nowhere"), "No such file"),
                                    ("a gzip archive", b"\x1f\x8b\x08\0", "this is a gzip archive"),
                                    ("HTML", b"<html>", "this is an HTML or XML page"),
                                    ("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\n", "this is a Git LFS pointer")):
            yield Case("%s: %s" % (file, name), model(**{key: content}), file + ": ", part, runs="tokenizer")
    yield Case("no tokenizer", model(vocab_json=None, merges_txt=None), "no tokenizer: neither vocab.json with merges.txt nor",
               runs=["generate", "--prompt", "x", "--model", "{}"])
    yield Case("vocab.json without merges.txt", model(merges_txt=None), "no tokenizer: neither vocab.json with merges.txt nor",
               runs=["tokenize", "--model", "{}"])
    yield Case("SentencePiece", model(vocab_json=None, merges_txt=None, **{"tokenizer.model": b"\n\x0e"}),
               "tokenizer.model: SentencePiece tokenizer", runs="tokenizer")


def vocabularies():
    yield in_vocab("a list", b"[]", "not a JSON object")
    yield in_vocab("no JSON", b"{,}", "line 1")
    yield in_vocab("empty", b"{}", "the vocabulary is empty")
    yield in_vocab("a token without an id", vocab({"ab": 1.5}), 'token "ab": id is not an integer')
    yield in_vocab("an id as a text", vocab([("ab", "257")]), 'token "ab": id is not an integer')
    yield in_vocab("id true", vocab([("ab", True)]), 'token "ab": id is not an integer')
    yield in_vocab("id -1", vocab({"ab": -1}), 'token "ab": id -1, expected 0 to %d' % (VOCAB - 1))
    yield in_vocab("id 2^31", vocab({"ab": 2 ** 31}), 'token "ab": id 2147483648, expected 0 to')
    yield in_vocab("id 2^32 and a good one", vocab({"ab": 2 ** 32 + 256}), 'token "ab": id 4294967552, expected')
    yield in_vocab("id -2^63", vocab({"ab": -2 ** 63}), 'id -9223372036854775808')
    yield in_vocab("id 2^63", vocab({"ab": 2 ** 63}), "line 1")
    yield in_vocab("one id above the last", vocab({"ab": VOCAB}), 'token "ab": id %d, expected' % VOCAB)
    yield in_vocab("an id twice", vocab({"ab": 5}), "id 5 belongs to another token")
    yield in_vocab("a token twice", vocab()[:-1] + b', "ab": 3}', "line 1", "duplicate")
    yield in_vocab("a token twice, once escaped", vocab()[:-1] + b', "a\\u0062": 3}', "duplicate")
    yield in_vocab("a byte missing", vocab({BYTES[0x41]: None, "zz": 0x41}), "byte 0x41 has no token, expected all 256")
    yield in_vocab("no bytes at all", dumps({"a": 0}), "has no token, expected all 256")
    yield Case("vocab.json: more tokens than the model has rows", model(vocab_json=vocab({"more": VOCAB})),
               "the tokenizer has %d tokens, the model only %d rows" % (VOCAB + 1, VOCAB), runs=["generate", "--prompt", "x", "--model", "{}"])
    yield in_vocab("a million and one tokens", Long(b"{", (b'"t%d":%d,' % (i, i) for i in range(1000000)), b'"t":1000000}'),
                   "1000001 tokens, at most 1000000 are allowed", heavy=True)
    yield in_vocab("a million tokens and one id too large", Long(b"{", (b'"t%d":%d,' % (i, i) for i in range(999999)), b'"t":1000000}'),
                   'token "t": id 1000000, expected 0 to 999999', heavy=True)
    yield in_vocab("20 MB of brackets", Long(b'{"a":[', (b"[],", 6000000), b"[]]}"), "more than 5000000 values")
    yield in_vocab("four million lists", Long(b'{"a":[', (b"[],", 2000000), b"[]]}"), 'token "a": id is not an integer', heavy=True)
    yield in_vocab("a token of 4 MB", vocab({"ab": None, "x" * (1 << 22): 5}), "id 5 belongs to another token")
    yield in_vocab("escape sequences in a token", vocab({"\x1b[2J\r\n\x07": -1}), 'token "\\x1b[2J\\r\\n\\x07": id -1')
    yield in_vocab("a NUL in a token", vocab({"a\0b": -1}), "U+0000 or U+FFFF in it")
    yield in_vocab("the empty token twice", vocab()[:-1] + b', "": 1, "": 2}', "duplicate")
    yield in_vocab("the end of text as a byte's id", vocab({"<|endoftext|>": 65}), "id 65 belongs to another token")


def merge_lists():
    yield in_merges("only the version", "#version: 0.2\n", "no merges")
    yield in_merges("one piece", "#version: 0.2\nab\n", 'line 2: malformed merge "ab", expected two pieces separated by one space')
    yield in_merges("three pieces", "a b c\n", 'line 1: malformed merge "a b c"')
    yield in_merges("two spaces", "a  b\n", "line 1: malformed merge")
    yield in_merges("a space in front", " a b\n", "line 1: malformed merge")
    yield in_merges("a space behind", "a b \n", "line 1: malformed merge")
    yield in_merges("a tab", "a\tb\n", "line 1: malformed merge")
    yield in_merges("a piece that is no token", "a b\nzz a\n", 'line 2: "zz" is not in the vocabulary')
    yield in_merges("a result that is no token", "z z\n", '"z" and "z" joined are not in the vocabulary')
    yield in_merges("a special token as a piece", "<|endoftext|> a\n", '"<|endoftext|>" is not in the vocabulary')
    yield in_merges("a merge twice", "a b\nab c\na b\n", "line 3: this merge appears twice")
    yield in_merges("NUL", b"a b\0\n", "line 1: NUL byte in a merge")
    yield in_merges("invalid UTF-8", b"a b\n\xff\xfe b\n", "line 2: merge is not valid UTF-8")
    yield in_merges("overlong UTF-8", b"\xc1\xa1 b\n", "line 1: merge is not valid UTF-8")
    yield in_merges("a surrogate half", b"\xed\xa0\x80 b\n", "line 1: merge is not valid UTF-8")
    yield in_merges("raw spaces for the space byte", b"\xe2\x80\x89 b\n", "is not in the vocabulary")
    yield in_merges("a line of 70,000 bytes", "a b\n" + "x" * 35000 + " " + "y" * 35000 + "\n", "line 2: merge of 70001 bytes, at most 65536")
    yield in_merges("one line of 30 MB", Long((b"x", 30000000)), "line 1: merge of 30000000 bytes")
    yield in_merges("a million times the same merge", Long((b"a b\n", 1000000)), "line 2: this merge appears twice")
    yield in_merges("a million empty lines", Long((b"\n", 1000000)), "no merges")
    yield in_merges("carriage returns only", "\r" * 1000, "line 1: malformed merge")
    yield in_merges("lines ended by carriage returns", "a b\rab c\r", "line 1: malformed merge")
    yield in_merges("JSON", '{"a": "b"}', "line 1: ")
    yield in_merges("the vocabulary", vocab(), "line 1: ")
    yield in_merges("escape sequences", "\x1b[2J \x1b]0;x\n", 'line 1: "\\x1b[2J" is not in the vocabulary')
    yield in_merges("a byte order mark", b"\xef\xbb\xbfa b\n", "line 1: ")
    chain = BYTES + ["a" * n for n in range(2, 2000)]
    yield in_merges("a chain of 2000, the last one broken",
                    "".join("%s a\n" % ("a" * n) for n in range(1, 1999)) + "%s aa\n" % ("a" * 1999), "line 1999: ", "joined are not in",
                    tokens=chain)


def settings():
    for name, changes, part in (
            ("no model", {"model": ...}, 'no object "model"'), ("model null", {"model": None}, 'no object "model"'),
            ("model a list", {"model": []}, 'no object "model"'),
            ("a normalizer", {"normalizer": {"type": "NFC"}}, "a normalizer is set, expected none"),
            ("no pre_tokenizer", {"pre_tokenizer": None}, "pre_tokenizer is not GPT-2's"),
            ("pre_tokenizer a text", {"pre_tokenizer": "ByteLevel"}, "pre_tokenizer is not GPT-2's"),
            ("another pre_tokenizer", {"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer is not GPT-2's"),
            ("a pre_tokenizer with a NUL behind it", {"pre_tokenizer": {"type": "ByteLevel\0"}}, "pre_tokenizer is not GPT-2's"),
            ("a prefix space", {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "pre_tokenizer is not GPT-2's"),
            ("no pattern", {"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}}, "pre_tokenizer is not GPT-2's"),
            ("added tokens an object", {"added_tokens": {}}, '"added_tokens" is not an array'),
            ("an added token a number", {"added_tokens": [1]}, "added_tokens[0]: expected a string"),
            ("an added token without id", {"added_tokens": [{"content": "x", "special": True}]}, "added_tokens[0]: expected"),
            ("an added token without content", {"added_tokens": [{"id": EOT, "special": True}]}, "added_tokens[0]: expected"),
            ("an added token with id 2^31", {"added_tokens": [{"id": 2 ** 31, "content": "<x>", "special": True}]}, "id 2147483648, expected"),
            ("an added token with id -1", {"added_tokens": [{"id": -1, "content": "<x>", "special": True}]}, "id -1, expected"),
            ("an added token that is no special one", {"added_tokens": [{"id": EOT, "content": "<x>"}]}, "is not special"),
            ("an added token twice", {"added_tokens": [{"id": EOT, "content": "<x>", "special": True}] * 2}, "belongs to another token"),
            ("an added text under two ids", {"added_tokens": [{"id": i, "content": "<x>", "special": True} for i in (EOT, EOT + 1)]},
             "appears twice"),
            ("an added token with another id than in the vocabulary", {"added_tokens": [{"id": EOT, "content": "ab", "special": True}]},
             'added token "ab": id %d, but 256 in the vocabulary' % EOT),
            ("10,000 added tokens of no text", {"added_tokens": [{"id": EOT, "content": "", "special": True}] * 10000},
             "belongs to another token")):
        yield in_json(name, tokenizer_json(**changes), part)
    for name, changes, part in (
            ("another type", {"type": "WordPiece"}, 'model.type is not "BPE"'), ("a type with a NUL behind it", {"type": "BPE\0x"}, "model.type"),
            ("type a number", {"type": 1}, "model.type"), ("dropout", {"dropout": 0.1}, "model.dropout is set"),
            ("dropout a list", {"dropout": []}, "model.dropout is set"), ("a prefix", {"continuing_subword_prefix": "##"}, "is set"),
            ("a suffix", {"end_of_word_suffix": "</w>"}, "is set"), ("merges ignored", {"ignore_merges": True}, "is set"),
            ("no vocabulary", {"vocab": None}, 'no object "model.vocab"'), ("vocabulary a list", {"vocab": []}, 'no object "model.vocab"'),
            ("no merges", {"merges": None}, 'no array "model.merges"'), ("merges empty", {"merges": []}, "no merges"),
            ("merges an object", {"merges": {}}, 'no array "model.merges"'), ("a merge a number", {"merges": [1]}, "merges[0]: malformed"),
            ("a merge of one", {"merges": [["a"]]}, "merges[0]: malformed"), ("a merge of three", {"merges": [["a", "b", "c"]]}, "malformed"),
            ("a merge of numbers", {"merges": [[1, 2]]}, "merges[0]: malformed"), ("an empty piece", {"merges": [["", "b"]]}, "a piece is empty"),
            ("a merge of lists", {"merges": [[[], []]]}, "malformed"), ("a NUL in a piece", {"merges": [["a\0", "b"]]}, "NUL byte in a merge"),
            ("both spellings, the second one broken", {"merges": ["a b", ["ab", "x"]]}, "merges[1]: "),
            ("a piece of a megabyte", {"merges": [["x" * 1000000, "b"]]}, "merges[0]: merge of 1000000 bytes"),
            ("a space in a piece", {"merges": [["a b", "c"]]}, "merges[0]: ")):
        yield in_json(name, tokenizer_json(changes), part)
    nested = json.loads(tokenizer_json())
    for _ in range(40):
        nested = {"model": nested}
    yield in_json("nested 42 deep", dumps(nested), "nested deeper than 32 levels")
    yield in_json("a list", b"[]", "not a JSON object")


def cases():
    for group in (places, vocabularies, merge_lists, settings):
        yield from group()
