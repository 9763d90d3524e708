# A script as a user of TextGrad has it: optimize a system prompt on batches, take it back if the validation set says so.
import argparse
import concurrent.futures
import json
import random

import numpy as np
import textgrad as tg
from counting_data import load
from textgrad.autograd.string_based_ops import StringBasedFunction
from textgrad.optimizer import TextualGradientDescent
from textgrad.tasks import DataLoader


def read_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--evaluation_engine", default="gpt-4o")
    parser.add_argument("--test_engine", default="gpt-3.5-turbo-0125")
    parser.add_argument("--batch_size", type=int, default=3)
    parser.add_argument("--max_epochs", type=int, default=3)
    parser.add_argument("--num_threads", type=int, default=4)
    parser.add_argument("--out", required=True)
    return parser.parse_args()


def equal(prediction, ground_truth_answer):
    return int(str(prediction.value).strip().split()[-1].strip(".") == str(ground_truth_answer.value))


def eval_sample(item):
    x, y = item
    x = tg.Variable(x, requires_grad=False, role_description="query to the language model")
    y = tg.Variable(y, requires_grad=False, role_description="correct answer for the query")
    return int(eval_fn(inputs=dict(prediction=model(x), ground_truth_answer=y)).value)


def eval_dataset(dataset):
    with concurrent.futures.ThreadPoolExecutor(max_workers=args.num_threads) as pool:
        return list(pool.map(eval_sample, dataset))


args = read_arguments()
random.seed(42)
np.random.seed(42)
backward_engine = tg.get_engine(args.evaluation_engine)
tg.set_backward_engine(backward_engine, override=True)
train_set, val_set = load()
eval_fn = StringBasedFunction(equal, function_purpose="whether the prediction is the right number")
system_prompt = tg.Variable(
    "Count the things.",
    requires_grad=True,
    role_description="structured system prompt to a language model that specifies the strategies for counting",
)
model = tg.BlackboxLLM(tg.get_engine(args.test_engine), system_prompt)
optimizer = TextualGradientDescent(engine=backward_engine, parameters=[system_prompt])
assert isinstance(optimizer, tg.TGD)
results = {"prompt": [system_prompt.get_value()], "validation": [float(np.mean(eval_dataset(val_set)))], "rejected": 0}

for epoch in range(args.max_epochs):
    for steps, (batch_x, batch_y) in enumerate(DataLoader(train_set, batch_size=args.batch_size, shuffle=True)):
        optimizer.zero_grad()
        losses = []
        for x, y in zip(batch_x, batch_y):
            x = tg.Variable(x, requires_grad=False, role_description="query to the language model")
            y = tg.Variable(y, requires_grad=False, role_description="correct answer for the query")
            losses.append(eval_fn(inputs=dict(prediction=model(x), ground_truth_answer=y)))
        total_loss = tg.sum(losses)
        total_loss.backward()
        optimizer.step()
        accuracy = float(np.mean(eval_dataset(val_set)))
        if accuracy < results["validation"][-1]:
            system_prompt.set_value(results["prompt"][-1])
            accuracy = results["validation"][-1]
            results["rejected"] += 1
        results["validation"].append(accuracy)
        results["prompt"].append(system_prompt.get_value())
        if steps == 3:
            break

print("gradient:", system_prompt.get_gradient_text())
with open(args.out, "w") as file:
    json.dump(results, file)
