from concurrent.futures import ThreadPoolExecutor

import pykcov


def price(customer: str) -> int:
    total = sum(range(1_000_000))
    if customer == "member":
        return total * 8 // 10
    return total


with ThreadPoolExecutor(2) as pool:
    pool.map(price, ["guest"] * 20)  # they keep the pool's threads busy, now and below
    with pykcov.collect() as c:
        pool.submit(price, "member").result()
print(sorted(*c.trace.lines().values()))
