"""PyTorch, real digits, and a run that outlives its sessions. Stop it any way you like and start it again."""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

import outlast

images, labels = load_digits(return_X_y=True)
dataset = TensorDataset(torch.tensor(images / 16).float(), torch.tensor(labels))

outlast.seed_everything(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = outlast.DataLoader(dataset, batch_size=64)

with outlast.open_run("torch_10_lines", total_steps=600) as run:
    run.track(model=model, optimizer=optimizer, data=loader)
    for step in run.steps():
        x, y = next(loader)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        run.log(loss=loss)
