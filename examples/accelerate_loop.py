"""accelerate's loop, in a run that outlives its sessions. The loader is outlast's, and is not prepared."""

import torch
from accelerate import Accelerator
from torch.utils.data import TensorDataset

import outlast

outlast.seed_everything(0)
accelerator = Accelerator()
x = torch.randn(4000, 8)
loader = outlast.DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=64)  # in place of prepare(loader)
model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Dropout(0.2), torch.nn.Linear(64, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 315)
model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)

with outlast.open_run("accelerate", save="20 steps") as run:
    run.track(model=model, optimizer=optimizer.optimizer, schedule=schedule.scheduler)
    for x, y in run.batches(loader, epochs=5):
        loss = torch.nn.functional.mse_loss(model(x.to(accelerator.device)), y.to(accelerator.device))
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        run.log(loss=loss)
