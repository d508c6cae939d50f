"""A sparse basis: what is planted is found again, codes are few, and silenced units leave H."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from esc_lib.probing.sparse import fit_sparse, frames_of, random_basis, strongest


def planted(clips=60, frames=20, channels=24, units=24, k=2, seed=0):
    """Return H whose frames are sums of few of some directions, and those directions."""
    rng = np.random.default_rng(seed)
    directions = np.abs(rng.normal(size=(units, channels))) ** 3
    codes = np.zeros((clips * frames, units))
    for frame in codes:
        frame[rng.choice(units, k, replace=False)] = rng.uniform(0.5, 2.0, k)
    h = (codes @ directions).reshape(clips, frames, channels).transpose(0, 2, 1)
    return torch.from_numpy(h).float(), directions


@pytest.fixture(scope="module")
def found():
    h, directions = planted()
    return h, directions, fit_sparse(h, 24, 2, steps=1500, seed=0)


def explained(basis, h):
    about = frames_of(h) / basis.scale - basis.mean
    rest = frames_of(h - basis.rebuilt(h)) / basis.scale
    return 1 - float(rest.square().sum() / (about - about.mean(dim=0)).square().sum())


def test_planted_directions_are_found_and_tell_more_than_components(found):
    h, directions, basis = found
    scaled = directions / basis.scale.numpy()
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    cosine = scaled @ basis.decoder.T.numpy()
    pairs = linear_sum_assignment(cosine, maximize=True)
    assert np.median(cosine[pairs]) > 0.9
    frames = (frames_of(h) / basis.scale).numpy()
    components = PCA(2).fit(frames).explained_variance_ratio_.sum()
    start = random_basis(h, 24, 2, torch.Generator().manual_seed(0))
    assert explained(basis, h) > 0.9 > components
    assert explained(basis, h) > explained(start, h) + 0.2


def test_codes_are_few_not_negative_and_clip_by_clip(found):
    h, _, basis = found
    codes = basis.codes(h)
    assert codes.shape == (60, 24, 20) and (codes >= 0).all()
    assert ((codes > 0).sum(dim=1) <= 2).all()
    torch.testing.assert_close(basis.codes(h[3:5]), codes[3:5])
    before = (h[7, :, 4] / basis.scale - basis.mean) @ basis.encoder.T + basis.bias
    kept = before.relu().topk(2)
    assert set(kept.indices[kept.values > 0].tolist()) == set(
        torch.nonzero(codes[7, :, 4])[:, 0].tolist()
    )


def test_what_is_rebuilt_is_the_mean_and_what_units_write(found):
    h, _, basis = found
    codes, rebuilt = basis.codes(h), basis.rebuilt(h)
    frame = basis.mean.clone()
    for unit in range(24):
        frame += codes[2, unit, 5] * basis.decoder[unit]
    torch.testing.assert_close(rebuilt[2, :, 5], frame * basis.scale)


def test_a_silenced_unit_leaves_h_and_never_below_zero(found):
    h, _, basis = found
    gone = torch.zeros(60, 24, dtype=torch.bool)
    torch.testing.assert_close(basis.left(h, gone), (h > 0).float())
    gone[:, 3] = True
    own = basis.codes(h)[:, 3:4] * (basis.decoder[3] * basis.scale)[:, None]
    torch.testing.assert_close(basis.left(h, gone) * h, (h - own).clamp_min(0))


def test_random_directions_rebuild_as_well_as_a_linear_map_of_their_codes():
    h, _ = planted(clips=20)
    basis = random_basis(h, 30, 3, torch.Generator().manual_seed(1))
    codes, frames = frames_of(basis.codes(h)), frames_of(h) / basis.scale
    ridge = Ridge(1e-3 * len(frames), fit_intercept=False).fit(codes, frames - basis.mean)
    np.testing.assert_allclose(basis.decoder.T, ridge.coef_, atol=1e-3)


def test_units_without_a_part_are_counted_dead():
    h, _ = planted(clips=4)
    basis = random_basis(h, 12, 2, torch.Generator().manual_seed(0))
    basis.bias[[0, 5, 7]] = -1e6
    alive = (basis.codes(h) > 0).any(dim=2).any(dim=0)
    assert not alive[[0, 5, 7]].any()
    assert basis.dead(h) == pytest.approx(1 - float(alive.float().mean()))


def test_the_same_seed_gives_the_same_basis_and_h_is_left_alone():
    h, _ = planted(clips=5)
    kept = h.clone()
    one, again, other = (fit_sparse(h, 16, 2, steps=20, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.decoder, again.decoder) and not torch.equal(one.decoder, other.decoder)
    torch.testing.assert_close(one.decoder.norm(dim=1), torch.ones(16))
    assert torch.equal(h, kept)


def test_strongest_keeps_the_largest():
    values = torch.tensor([[1.0, 3.0, 2.0], [0.0, 0.0, 5.0]])
    assert strongest(values, 2).tolist() == [[0.0, 3.0, 2.0], [0.0, 0.0, 5.0]]


def test_impossible_bases_are_refused():
    h, _ = planted(clips=2)
    with pytest.raises(ValueError, match=r"k=30 units active, expected 1 to 24\.$"):
        fit_sparse(h, 24, 30, steps=1, seed=0)
    with pytest.raises(ValueError, match="H is 0 everywhere"):
        fit_sparse(torch.zeros(2, 4, 5), 4, 1, steps=1, seed=0)
