"""Nothing of ours runs text or unpickles what it was given."""

import ast

import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from esc_lib.machine.fingerprint import ROOT

FILES = [ROOT / "dodo.py", *(path for folder in ("esc_lib", "notebooks", "benchmarks", "book")
                             for path in sorted((ROOT / folder).rglob("*.py")))]  # fmt: skip
# calls that run what they are given, or may
REFUSED = {
    "eval", "exec", "compile", "__import__",
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads",
    "shelve.open", "joblib.load", "dill.load", "dill.loads",
    "pd.read_pickle", "pd.eval", "torch.jit.load", "torch.hub.load",
    "yaml.load", "yaml.unsafe_load", "get_ipython().system", "get_ipython().run_cell",
}  # fmt: skip
ONLY_WITH = {"torch.load": ("weights_only", True)}
NEVER_WITH = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "weights_only": False}


def faults_of(text):
    """Yield what a source calls that runs what it is given: the name, or the argument, and line."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {
            each.arg: each.value.value if isinstance(each.value, ast.Constant) else ...
            for each in node.keywords
        }
        literal = bool(node.args) and isinstance(node.args[0], ast.Constant)
        of_table = name.endswith(".query") and not name.startswith("self.")  # self: of attention
        if name in REFUSED or (of_table and not literal):
            yield name, node.lineno
        if name in ONLY_WITH and ONLY_WITH[name] not in given.items():
            yield name, node.lineno
        for argument, value in NEVER_WITH.items():
            # another value than a literal cannot be told
            if argument in given and given[argument] in (value, ...):
                yield argument, node.lineno


@pytest.mark.parametrize("text", [
    "eval(x)", "os.system(x)", "subprocess.run(x, shell=True)", "subprocess.run(x, shell=its.own)",
    "torch.load(x)", "torch.load(x, weights_only=False)", "np.load(x, allow_pickle=True)",
    "__import__('os')", "table.query(x)",
])  # fmt: skip
def test_what_would_run_is_seen(text):
    assert len(list(faults_of(text))) >= 1
    assert not list(faults_of("model.eval(); re.compile(x); torch.load(x, weights_only=True)"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_runs_what_it_is_given(path):
    text = path.read_text(encoding="utf-8")
    assert not list(faults_of(text))
    assert not any(line.startswith(("# !", "# %%bash", "# %%!")) for line in text.splitlines())


@pytest.mark.parametrize("value", [
    "__import__('os').system('x')", "'\n__import__('os').system('x')\n'", '"""\nx()\n"""',
    "\\'x()#", "a\\", "\u2028x()", "{{x()}}", "$(x)",
])  # fmt: skip
def test_a_parameter_that_holds_code_stays_text(value):
    notebook = load_notebook_node(str(ROOT / "notebooks" / "03_training.ipynb"))
    given = {"profile": value, "start_from": value}
    (cell,) = (
        cell for cell in parameterize_notebook(notebook, given).cells
        if "injected-parameters" in cell.metadata.tags
    )  # fmt: skip
    assigned = {node.targets[0].id: node.value for node in ast.parse(cell.source).body}
    assert {name: ast.literal_eval(node) for name, node in assigned.items()} == given
