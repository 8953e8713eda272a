"""What the server tells of its clients' data before the first round."""

import pytest

from fedcomp.config import RunConfig
from fedcomp.data import hold_out, load_dataset
from fedcomp.errors import ConfigError, DataError
from server.shared_data import check_shared


def check(num_clients, **changes):
    train, _ = load_dataset("digits")
    config = RunConfig.from_mapping({"num-clients": num_clients, **changes})
    check_shared(config, hold_out(train, **config.held_out_sizes, seed=config.seed))


def test_more_clients_than_images_are_fine_only_where_clients_have_their_own():
    check(1037, partition="iid")
    check(1038, deployed=True)
    with pytest.raises(ConfigError, match="1038 clients but 1037 images"):
        check(1038, partition="iid")


def test_so_is_a_partition_that_can_not_be_made():
    impossible = {"partition": "dirichlet", "dirichlet-alpha": 0.01}
    check(2, **impossible | {"dirichlet-alpha": 0.5})
    check(300, deployed=True, **impossible)
    with pytest.raises(DataError, match="no dirichlet partition of 1037 images over 300 clients: lower num-clients"):
        check(300, **impossible)
