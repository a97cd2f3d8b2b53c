"""What a compiled program consists of: by hand, and beside XLA's own analysis."""

import re

import jax
import jax.numpy as jnp
import pytest

from dcjax.devices.program import Program

SIDE = 64
PRODUCT = 2 * SIDE**3
MATRIX = jnp.ones((SIDE, SIDE))


def compiled(function, *arguments):
  return jax.jit(function).lower(*arguments).compile()


def work_of(function, *arguments, cache=0):
  return Program(compiled(function, *arguments).as_text()).work(cache)


def convolve(images, kernel, groups=1):
  return jax.lax.conv_general_dilated(
    images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
  )  # fmt: skip


def test_a_loop_counts_as_often_as_it_runs():
  def function(x):
    return jax.lax.scan(lambda c, _: (jnp.tanh(c @ MATRIX), None), x, None, length=7)[0]

  least, most = work_of(function, MATRIX)
  assert least == most and least.products == 7 * PRODUCT
  assert least.kernels >= 7


def test_a_loop_is_counted_where_nothing_is_noted():
  """As in what libtpu compiles."""

  def function(x, start):
    x = jax.lax.scan(lambda c, _: (jnp.tanh(c @ MATRIX), None), x, None, length=7)[0]
    return jax.lax.fori_loop(start, 9, lambda _, c: c @ MATRIX, x)

  text = re.sub(r'"known_trip_count":{"n":"\d+"},?', "", compiled(function, MATRIX, 3).as_text())
  assert "known_trip_count" not in text
  assert Program(text).work()[0].products == (7 + 1) * PRODUCT


def test_a_loop_whose_bounds_are_arguments_counts_once():
  def function(x, start, stop):
    return jax.lax.fori_loop(start, stop, lambda _, c: c @ MATRIX, x)

  assert work_of(function, MATRIX, 0, 5)[1].products == PRODUCT


def test_a_condition_has_a_least_and_a_most():
  def function(x, n):
    return jax.lax.switch(n, [lambda c: c, lambda c: c @ MATRIX, lambda c: c @ MATRIX @ MATRIX], x)

  least, most = work_of(function, MATRIX, 1)
  assert (least.products, most.products) == (0, 2 * PRODUCT)
  assert least.bytes < most.bytes


def test_products_of_16_bits_count_apart():
  text = compiled(lambda x: x @ x, MATRIX).as_text().replace("f32[", "bf16[")
  found = Program(text).work()[0]
  assert found.products == found.half == PRODUCT and not found.exact


def test_products_that_may_not_be_rounded_count_apart():
  def function(x):
    return x @ jnp.matmul(x, x, precision=jax.lax.Precision.HIGHEST)

  found = work_of(function, MATRIX)[0]
  assert (found.products, found.exact) == (2 * PRODUCT, PRODUCT)


@pytest.mark.parametrize("gradient", [False, True])
def test_convolutions_count_what_each_output_sums_up(gradient):
  images, kernel = jnp.ones((4, 8, 8, 3)), jnp.ones((3, 3, 3, 16))
  function = convolve
  if gradient:
    function = jax.grad(lambda images, kernel: (convolve(images, kernel) ** 2).sum(), argnums=1)
  found = work_of(function, images, kernel)[0]
  one = 2 * 4 * 8 * 8 * 16 * 3 * 3 * 3
  assert found.products == (2 if gradient else 1) * one and not found.grouped


def test_grouped_convolutions_are_counted():
  images, kernel = jnp.ones((4, 8, 8, 6)), jnp.ones((3, 3, 3, 16))
  found = work_of(lambda *each: convolve(*each, groups=2), images, kernel)[0]
  assert found.grouped == 1 and found.products == 2 * 4 * 8 * 8 * 16 * 3 * 3 * 3


def test_bytes_are_those_of_xla_where_there_are_no_loops():
  def function(x, y):
    return jnp.sin(x @ y)[3:50].sum(0)

  program = compiled(function, MATRIX, MATRIX)
  found = Program(program.as_text()).work()[0]
  theirs = program.cost_analysis()
  assert found.bytes == theirs["bytes accessed"]
  assert found.products <= theirs["flops"]


def test_of_an_array_that_is_read_in_parts_the_parts_count():
  many = jnp.ones((100, SIDE, SIDE))

  def function(many, n):
    return jnp.sin(many[n])

  found = work_of(function, many, 3)[0]
  assert 2 * 4 * SIDE**2 <= found.bytes < 3 * 4 * SIDE**2  # read and written, and an index


def test_what_a_cache_holds_need_not_come_from_memory():
  bytes_each = 4 * SIDE**2
  everything = work_of(jnp.sin, MATRIX, cache=0)[0]
  assert everything.beyond == everything.bytes == 2 * bytes_each
  assert work_of(jnp.sin, MATRIX, cache=bytes_each - 1)[0].beyond == 2
  assert work_of(jnp.sin, MATRIX, cache=bytes_each)[0].beyond == 0


def test_collectives_and_their_bytes():
  mesh = jax.sharding.Mesh(jax.devices()[:4], ("batch",))

  def total(x):
    return jax.lax.psum(x, "batch")

  P = jax.sharding.PartitionSpec
  shared = jax.shard_map(total, mesh=mesh, in_specs=P("batch"), out_specs=P())
  found = work_of(shared, jnp.ones((4, SIDE)))[0]
  assert (found.collectives, found.collective_bytes) == (1, 4 * SIDE)


@pytest.mark.parametrize(
  ("kind", "shapes", "made"),
  [
    ("all-gather-start", "((f32[2,8], f32[2,4]), (f32[8,8], f32[8,4]))", 4 * (8 * 8 + 8 * 4)),
    ("collective-permute-start", "(f32[2,8], f32[2,4], f32[2,8], f32[2,4], u32[], u32[])", 96),
    ("all-reduce-start", "(f32[2,8], f32[2,4])", 96),
    ("all-to-all", "(f32[2,8], f32[2,4])", 96),
  ],
)
def test_a_collective_of_several_arrays_makes_all_of_them(kind, shapes, made):
  text = f"""ENTRY %main (a: f32[2,8], b: f32[2,4]) -> f32[] {{
  %a = f32[2,8]{{1,0}} parameter(0)
  %b = f32[2,4]{{1,0}} parameter(1)
  ROOT %made = {shapes} {kind}(%a, %b), channel_id=1
}}"""
  found = Program(text).work()[0]
  assert (found.collectives, found.collective_bytes) == (1, made)
