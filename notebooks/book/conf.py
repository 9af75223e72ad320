"""Sphinx: the notebooks, as they were executed, into one static site (`make book`).

Nothing runs here and nothing is fetched: pages show the outputs that the notebooks hold, and
MathJax is a file of an installed package. The sources that Sphinx reads are copies in build/, put
there by the Makefile: `index.md` from this folder and every built notebook.
"""

import re
from importlib import metadata
from pathlib import Path

BOOK = Path(__file__).resolve().parent
README = BOOK.parent.parent / "README.md"

# Reading order by part. A notebook that is not built yet is left out of the book.
PARTS = {
    "Theory": (
        "00_motivation",
        "01_scaling_laws",
        "02_cluster_economics",
        "03_data_pipelines",
        "04_training_stability",
        "05_reading_logs",
    ),
    "Labs": ("lab00", "lab01", "lab02", "lab03"),
    "At the end": ("quiz",),
}


def contents(found: set[str]) -> str:
    """A table of contents for each part that has a notebook among `found`."""
    blocks = []
    for part, names in PARTS.items():
        if here := [name for name in names if name in found]:
            options = [f":caption: {part}", ":maxdepth: 1", ":hidden:"]
            blocks.append("\n".join(["```{toctree}", *options, "", *here, "```"]))
    return "\n\n".join(blocks)


def course_map(found: set[str], readme: str) -> str:
    """README's table of notebooks, in the book's order, with links that stay inside the book."""
    head = re.search(r"^\| notebook \|.*\n\|[-|]+\|$", readme, re.MULTILINE)
    rows = re.findall(r"^\| \[`?(\w+)`?\]\(notebooks/\1\.ipynb\) (\|.*)$", readme, re.MULTILINE)
    rest = dict(rows)
    order = [name for names in PARTS.values() for name in names if name in found and name in rest]
    return "\n".join([head[0], *(f"| [{name}]({name}.ipynb) {rest[name]}" for name in order)])


def named(word: str, found: set[str], here: str) -> str | None:
    """The notebook that `word` names, in full or by its number; never the page it stands on."""
    hits = [name for name in found if word in (name, name.partition("_")[0]) and name != here]
    return hits[0] if len(hits) == 1 else None


# The site

project = "X1: Pretraining at Scale"
author = "The X1 authors"
html_title = project
language = "en"
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx_copybutton"]
html_theme = "sphinx_book_theme"
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # one search field, in the side bar
}
html_context = {"default_mode": "auto"}  # light or dark as the reader's system, or by a button
html_static_path = ["book.css"]
html_css_files = ["book.css"]
# A page opened from a disk may not fetch the others, which search does for its excerpts.
FROM_DISK = "if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;"
html_js_files = [(None, {"body": FROM_DISK})]
html_use_index = False
html_copy_source = True  # the download button hands out the notebook
html_sourcelink_suffix = ""
html_show_copyright = False
html_show_sphinx = False
html_last_updated_fmt = None  # the same notebooks give the same pages
copybutton_exclude = ".linenos, .gp, .go"

# Notebooks

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # without a kernel a widget has no state: its sentence is shown instead
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
    ("html", "image/png", 0),  # the static twin of what is dragged where a kernel runs
]
nb_render_markdown_format = "gfm"  # tables; a dollar in an output is money
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]  # plotly's own, which stands beside the twin

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_dmath_double_inline = True
myst_heading_anchors = 3

# Mathematics: only what the parser took for mathematics is given to MathJax.
myst_update_mathjax = False
mathjax_path = "tex-svg.js"  # one file, its glyphs inside: no fonts to find when opened from a disk
mathjax3_config = {
    "options": {
        "ignoreHtmlClass": ".*",
        "processHtmlClass": "math",
        "enableMenu": False,  # its parts are files of their own, which are not here
    },
}


def local_mathjax(app, config) -> None:
    """Take MathJax from the installed package into the site."""
    files = metadata.files("sphinx-mathjax-offline") or []
    (script,) = [one for one in files if one.as_posix().endswith(f"/mathjax/{mathjax_path}")]
    config.html_static_path.append(str(script.locate()))


def fill_index(app, docname: str, source: list[str]) -> None:
    """Put the map and the contents where the index asks for them."""
    if docname == "index":
        found = app.env.found_docs
        text = source[0].replace("<!-- map -->", course_map(found, README.read_text("utf-8")))
        source[0] = text.replace("<!-- contents -->", contents(found))


def link_names(app, doctree) -> None:
    """Turn the names of notebooks in the prose into links."""
    from docutils import nodes

    found, here = app.env.found_docs, app.env.docname
    kept = (nodes.title, nodes.reference, nodes.literal_block, nodes.raw, nodes.math)

    def link(inside, name: str):
        return nodes.reference("", "", inside, internal=True, refuri=f"{name}.html")

    def prose(node) -> bool:
        while node := node.parent:
            if isinstance(node, kept) or "cell_output" in node.get("classes", ()):
                return False
        return True

    for node in [one for one in doctree.findall(nodes.literal) if prose(one)]:
        if name := named(node.astext(), found, here):
            node.replace_self(link(node.deepcopy(), name))
    for node in [one for one in doctree.findall(nodes.Text) if prose(one)]:
        pieces = [nodes.Text(one) for one in re.split(r"(\b[Nn]otebook \d\d\b)", node.astext())]
        for at in range(1, len(pieces), 2):
            if name := named(pieces[at].split()[1], found, here):
                pieces[at] = link(nodes.inline("", "", pieces[at]), name)
        if len(pieces) > 1:
            node.parent.replace(node, pieces)


def setup(app) -> dict:
    app.connect("config-inited", local_mathjax)
    app.connect("source-read", fill_index)
    app.connect("doctree-read", link_names)
    return {"parallel_read_safe": True}
