"""The order of data is state of its own kind: samplers, loaders and what is known of their position."""

from outlast.state import adapters

adapters.register("outlast.data", "outlast.data", "outlast.data.tracked")
adapters.register("torchdata", "torchdata.stateful_dataloader", "outlast.data.torchdata")
