"""The order of data: samplers, loaders and their positions."""

from outlast.state import adapters

adapters.register("outlast.data", "outlast.data", "outlast.data.tracked")
adapters.register("torchdata", "torchdata.stateful_dataloader", "outlast.data.torchdata")
adapters.register("torchdata.nodes", "torchdata.nodes", "outlast.data.nodes")
adapters.register("litdata", "litdata", "outlast.data.litdata")
