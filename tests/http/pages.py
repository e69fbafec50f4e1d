"""An HTML page as the tests read it: well-formed, self-contained, its tags and texts."""
import html.parser
import os

from harness import check, equal

VOID = ("meta", "br", "link", "img", "input", "hr")


class Page(html.parser.HTMLParser):
    """Raises unless every element is closed where it should be and nothing outside is referred to."""

    def __init__(self, text):
        super().__init__()
        self.size = len(text.encode("utf-8"))
        self.open = []
        self.tags = []
        self.attributes = []  # (tag, name, value)
        self.texts = []
        self.feed(text)
        self.close()
        equal(self.open, [])
        links = [a for a in self.attributes if a[1] in ("src", "href", "xlink:href", "action", "data")]
        equal(links, [])
        check("url(" not in text and "@import" not in text, "the style refers to something")

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        equal(self.open.pop(), tag)

    def handle_data(self, data):
        if data.strip() and self.open[-1:] not in (["style"], ["script"]):
            self.texts.append(data.strip())

    def count(self, tag, name, value):
        """Elements whose class or other list holds that word."""
        return sum(t == tag and n == name and value in (v or "").split() for t, n, v in self.attributes)


def read_page(path):
    """The page in that file, which is removed."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    os.remove(path)
    return Page(text)
