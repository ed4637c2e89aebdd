"""Draw the Mermaid texts of the documents as SVG into docs/diagrams: `python .ci/diagrams.py`.

GitHub draws the texts by itself; `.ci/site.py` puts these pictures in their place, so that the site loads no script. A
picture says of which text it was drawn, and a test fails if that text is gone. Needs `npm` (it fetches Mermaid) and
`chromium`, which nothing else here does.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIAGRAMS = ROOT / "docs" / "diagrams"
MERMAID = "mermaid@11.12.0"

#: A block, with the heading before it.
BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)

CONFIGURATION = {
    "startOnLoad": False,
    "theme": "neutral",
    "htmlLabels": False,  # an SVG that is shown as an image may hold no HTML
    "flowchart": {"htmlLabels": False, "curve": "basis", "wrappingWidth": 260},
    "fontFamily": "Verdana, DejaVu Sans, sans-serif",
    "deterministicIds": True,
}

PAGE = """<!doctype html><meta charset="utf-8"><body><script>{program}</script><script>
mermaid.initialize({configuration});
mermaid.render("{name}", {text}).then(
  (drawn) => {{
    document.body.innerHTML = "<pre id=drawn></pre>";
    document.getElementById("drawn").textContent = drawn.svg;
  }},
  (error) => {{ document.body.textContent = "failed: " + error; }},
);
</script></body>"""


def digest(text: str) -> str:
    """What a picture says of the text that it was drawn of."""
    return hashlib.sha256(text.encode()).hexdigest()


def pictures() -> dict[str, Path]:
    """The pictures that there are, by the digest of their text."""
    found = {path: re.search(r"<!-- drawn of ([0-9a-f]{64}) -->", path.read_text()) for path in DIAGRAMS.glob("*.svg")}
    return {match[1]: path for path, match in found.items() if match is not None}


def main() -> None:
    """Draw all anew."""
    DIAGRAMS.mkdir(exist_ok=True)
    for path in DIAGRAMS.glob("*.svg"):
        path.unlink()
    with tempfile.TemporaryDirectory() as folder:
        program = fetched(Path(folder))
        for document in sorted((ROOT / "docs").glob("*.md")):
            for number, text in enumerate(BLOCK.findall(document.read_text()), 1):
                name = f"{document.stem}-{number}"
                svg = drawn(program, name, text, Path(folder))
                (DIAGRAMS / f"{name}.svg").write_text(f"{svg}\n<!-- drawn of {digest(text)} -->\n")
                print(f"docs/diagrams/{name}.svg")


def fetched(folder: Path) -> str:
    """Mermaid itself."""
    command = ["npm", "pack", "--silent", MERMAID]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  written just above
    [packed] = folder.glob("*.tgz")
    with tarfile.open(packed) as package:
        package.extract("package/dist/mermaid.min.js", folder, filter="data")
    return (folder / "package" / "dist" / "mermaid.min.js").read_text()


def drawn(program: str, name: str, text: str, folder: Path) -> str:
    """One text as SVG, on white, so that it can be read on any page."""
    page = folder / f"{name}.html"
    values = {"configuration": json.dumps(CONFIGURATION), "text": json.dumps(text)}
    page.write_text(PAGE.format(program=program.replace("</script", "<\\/script"), name=name, **values))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    command = ["chromium", *options, page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603  as above
    found = re.search(r'<pre id="drawn">(.*?)</pre>', shown, re.DOTALL)
    if found is None:
        raise SystemExit(f"{name}: {shown[-300:]}")
    svg = html.unescape(found[1]).replace("max-width:", "background: white; max-width:", 1)
    # Without a size of its own each would be as wide as the page, and letters larger in one than in the other.
    svg = re.sub(r'width="100%"(.*?viewBox="\S+ \S+ (\S+) (\S+)")', r'width="\2" height="\3"\1', svg, count=1)
    return re.sub(r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", svg)  # a tenth of a dot is enough


if __name__ == "__main__":
    main()
