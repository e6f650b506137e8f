{# Convolve the spikes of this step with kernels: each spike adds, for each tap that it is under, a row of the kernel
   to all channels of a place. The queue holds source neurons, in ascending order; see kernels.py for `_plans`. #}
{# USES_VARIABLES { _queue, _plans, v, w } #}
{% extends 'common_group.pyx' %}

{% block template_support_code %}
cdef extern from *:
    """
    #include <algorithm>
    static void strop_convolve(const int *fired, long count, const long long *plan, const int *first, const int *tap,
                               const int *place, const int *first_input, const int *inputs, const int *outputs,
                               const double *w, double *v)
    {
        const long begin = plan[0], end = plan[1], channels = plan[3], per_group = plan[4], filters = plan[5];
        const long share = plan[6];
        const double *kernel = w + plan[7];
        double *target = v + plan[2];
        const int *spike = std::lower_bound(fired, fired + count, (int) begin);
        const int *last = std::lower_bound(spike, fired + count, (int) end);
        for (; spike < last; spike++) {
            const long neuron = *spike - begin;
            const long from = first_input ? first_input[neuron] : neuron;
            const long upto = first_input ? first_input[neuron + 1] : neuron + 1;
            for (long k = from; k < upto; k++) {
                const long input = first_input ? inputs[k] : k;
                const long at = input / channels, channel = input % channels;
                const long group = channel / per_group, row = channel % per_group;
                for (int t = first[at]; t < first[at + 1]; t++) {
                    const double *__restrict weight = kernel + (tap[t] * per_group + row) * filters + group * share;
                    const long output = place[t] * filters + group * share;
                    if (outputs) {
                        for (long i = 0; i < share; i++)
                            if (outputs[output + i] >= 0) target[outputs[output + i]] += weight[i];
                    } else {
                        double *__restrict to = target + output;
                        for (long i = 0; i < share; i++) to[i] += weight[i];
                    }
                }
            }
        }
    }
    """
    void strop_convolve(int* fired, long count, long long* plan, int* first, int* tap, int* place, int* first_input,
                        int* inputs, int* outputs, double* w, double* v) nogil

cdef int* _address(_numpy.ndarray _table):
    return <int*> _table.data if _table.size else NULL
{% endblock %}

{% block maincode %}
    {% set _eventspace = get_array_name(eventspace_variable) %}
    cdef int32_t _count = {{_eventspace}}[_num{{_eventspace}} - 1]
    if _count > 0:
        _queue.push(_buf_{{_eventspace}}[:_count])
    cdef _numpy.ndarray[int32_t, ndim=1, mode='c'] _fired = _queue.peek()
    cdef _numpy.ndarray[int64_t, ndim=1, mode='c'] _numbers
    if len(_fired) > 0:
        for _plan in _plans:
            _numbers = _plan[0]
            strop_convolve(<int*> _fired.data, len(_fired), <long long*> _numbers.data, _address(_plan[1]),
                           _address(_plan[2]), _address(_plan[3]), _address(_plan[4]), _address(_plan[5]),
                           _address(_plan[6]), {{w}}, {{v}})
    _queue.advance()
{% endblock %}
