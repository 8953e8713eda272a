"""What the server tells of its clients' data before the first round."""

import pytest

from fedcomp.config import RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.errors import ConfigError
from server.shared_data import check_shared


def test_more_clients_than_images_are_fine_only_where_clients_have_their_own():
    train, _ = load_dataset("digits")

    def check(**changes):
        config = RunConfig.from_mapping(changes)
        check_shared(config, hold_out(train, **config.held_out_sizes, seed=config.seed))

    check(**{"num-clients": 1037})
    check(**{"num-clients": 1038, "deployed": True})
    with pytest.raises(ConfigError, match="1038 clients but 1037 images"):
        check(**{"num-clients": 1038})
