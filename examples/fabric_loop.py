"""Lightning Fabric's loop, in a run that outlives its sessions. The loader is outlast's, and is not set up."""

import torch
from lightning_fabric import Fabric
from torch.utils.data import TensorDataset

import outlast

outlast.seed_everything(0)
fabric = Fabric()
x = torch.randn(4000, 8)
loader = outlast.DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=64)  # in place of setup_dataloaders
model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Dropout(0.2), torch.nn.Linear(64, 1))
model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=1e-3))

with outlast.open_run("fabric", save="20 steps") as run:
    run.track(model=model.module, optimizer=optimizer.optimizer)
    for x, y in run.batches(loader, epochs=5):
        loss = torch.nn.functional.mse_loss(model(x.to(fabric.device)), y.to(fabric.device))
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        run.log(loss=loss)
