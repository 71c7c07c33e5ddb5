"""What the site has beside the pages of docs/: other files of the repository, and the reference.

MkDocs calls `on_files` and `on_page_markdown`.
"""

import ast
import json
import os.path
import re
from pathlib import Path, PurePosixPath

from markdown.extensions.toc import slugify
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "build/package"  # where `make docs` installs the package
# Pages of the site by their files in the repository.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "RELEASING.md": "releasing.md",
    "nasnet_zoo/weights/fashion_mnist.md": "cards/fashion_mnist.md",
    "examples/finetune_and_export.ipynb": "notebooks/finetune_and_export.md",
    "examples/search_and_front.ipynb": "notebooks/search_and_front.md",
}
# Files of examples/, with the language that each is highlighted as.
EXAMPLES = {
    "finetune.py": "python",
    "own_space.py": "python",
    "pasted.py": "python",
    "retinanet.py": "python",
    "classify_litert.py": "python",
    "classify_onnx.py": "python",
    "web/index.html": "html",
    "web/classify.js": "javascript",
    "ray-job.yaml": "yaml",
}
# Packages and modules, with a page each.
REFERENCE = (
    "nasnet_zoo",
    "nasnet_zoo.cells",
    "nasnet_zoo.transform",
    "nasnet_zoo.weights",
    "nasnet_zoo.data",
    "nasnet_zoo.training",
    "nasnet_zoo.prediction",
    "nasnet_zoo.evaluation",
    "nasnet_zoo.export",
    "nasnet_zoo.search",
    "nasnet_zoo.detection",
    "nasnet_zoo.language",
    "nasnet_zoo.hub",
)


def on_files(files, config):
    """Add the pages that are not in docs/."""
    made = {page: _text(ROOT / source) for source, page in PAGES.items()}
    made["examples.md"] = _examples()
    for name in REFERENCE:
        made[f"reference/{name.rpartition('.')[2]}.md"] = _reference(name)
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Let links to files of the repository lead to their pages."""
    here = page.file.src_uri
    source = next((name for name, made in PAGES.items() if made == here), f"docs/{here}")

    def led(match):
        target, hash_sign, anchor = match[1].partition("#")
        path = os.path.normpath(PurePosixPath(source).parent / target)
        if path in PAGES:
            path = PAGES[path]
        elif path.startswith("examples/"):
            path, hash_sign, anchor = "examples.md", "#", slugify(path[len("examples/") :], "-")
        elif path.startswith("docs/"):
            path = path[len("docs/") :]
        else:  # on no page of the site: MkDocs warns of it
            return match[0]
        return f"]({os.path.relpath(path, PurePosixPath(here).parent)}{hash_sign}{anchor})"

    return re.sub(r"\]\(((?!https?:|#|mailto:)[^)\s]+)\)", led, markdown)


def _text(path):
    """The text of a file; of a notebook, its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    parts = [source if kind == "markdown" else f"```python\n{source}\n```" for kind, source in cells]
    return "\n\n".join([*parts, f"This is the notebook `{path.relative_to(ROOT)}`."]) + "\n"


def _examples():
    """The files of examples/, one after the other."""
    parts = ["# Examples", "They stand in the repository's folder `examples/`."]
    for name, language in EXAMPLES.items():
        code = (ROOT / "examples" / name).read_text(encoding="utf-8")
        parts.append(f"## {name}\n\n```{language}\n{code}```")
    return "\n\n".join(parts) + "\n"


def _reference(name):
    """A page of the public functions and classes of a package or module, from their docstrings."""
    source = _file(name)
    parts, data = [f"# {name}", ast.get_docstring(_tree(source))], []
    stub = source.with_suffix(".pyi")
    for place, public in _public(name, _tree(stub if stub.exists() else source)):
        defined = re.search(rf"^(class|def) {public}\b", _file(place).read_text(encoding="utf-8"), re.M)
        if defined:
            parts.append(f"::: {place}.{public}")
        else:
            data.append(f"`{public}`")
    if data:
        parts.insert(2, f"Data: {', '.join(data)}.")
    return "\n\n".join(parts) + "\n"


def _file(name):
    """The file of a package or module."""
    path = PACKAGE.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def _public(name, tree):
    """The public names of a module, each with the module where it is defined, by name."""
    exported, places = None, {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level and node.module:
            places |= {alias.name: f"{name}.{node.module}" for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            places[node.name] = name
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            exported = ast.literal_eval(node.value)
    public = [public for public in places if exported is None or public in exported]
    return [(places[public], public) for public in sorted(public, key=str.lower)]
